import type { KeyBits } from '../quantize-keys/layout.js'

/** What keys are read from: packed ones, those of a pool as they are, or a tensor's. */
export type ListedKeys = KeyBits | 'pages' | 'tensor'
