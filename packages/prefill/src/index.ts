export { methods } from './methods.js'
export * from './xattention/index.js'
