// Written by `pnpm methods` from the folders beside it.
export * from './bilevel-routing/index.js'
export { methods } from './methods.js'
export * from './region-routes/index.js'
export * from './shifted-windows/index.js'
