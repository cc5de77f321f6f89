import { mountApp } from '../shell/mount.js'
import { VideoApp } from './VideoApp.js'

mountApp({ id: 'video', title: 'Denoising a video, dense and sparse', App: VideoApp })
