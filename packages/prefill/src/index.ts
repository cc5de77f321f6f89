// Written by `pnpm methods` from the folders beside it.
export * from './a-shape/index.js'
export { methods } from './methods.js'
export * from './minference-block-sparse/index.js'
export * from './minference-vertical-slash/index.js'
export * from './xattention/index.js'
