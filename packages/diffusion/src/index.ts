// Written by `pnpm methods` from the folders beside it.
export * from './lite-attention/index.js'
export { methods } from './methods.js'
export * from './sparse-videogen/index.js'
export * from './sparse-videogen-2/index.js'
export * from './step-cache/index.js'
