import { Landing } from './Landing.js'
import { mountApp } from './shell/mount.js'

mountApp({ id: 'home', title: 'Sparse attention in your browser', needsGpu: false, App: Landing })
