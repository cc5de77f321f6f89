import { mountApp } from '../shell/mount.js'
import { Vision } from './Vision.js'

mountApp({ id: 'vision', title: 'Which regions of a photo attend to which', App: Vision })
