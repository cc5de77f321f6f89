import { mountApp } from '../shell/mount.js'
import { Playground } from './Playground.js'

mountApp({ id: 'playground', title: 'Playground', App: Playground })
