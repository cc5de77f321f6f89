// Written by `pnpm methods` from the folders beside it.
export { methods } from './methods.js'
export * from './step-cache/index.js'
