// Written by `pnpm methods` from the folders beside it.
export { methods } from './methods.js'
