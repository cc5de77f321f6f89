// Written by `pnpm methods` from the folders beside it.
export * from './kv-cache/index.js'
export { methods } from './methods.js'
export * from './quest/index.js'
export * from './selectors/index.js'
export * from './sink-window/index.js'
export * from './twilight/index.js'
