export { type XAttentionOptions, xattention } from './method.js'
