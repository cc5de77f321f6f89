import { mountApp } from '../shell/mount.js'
import { Chat } from './Chat.js'

mountApp({ id: 'chat', title: 'A language model reads a long text', App: Chat })
