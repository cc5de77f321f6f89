export * from '../index.js'
export { loadHeldOutBook, loadLanguageModel, loadVideoModel, packageFolder } from './load.js'
