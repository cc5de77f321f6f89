export * from '../index.js'
export { loadHeldOutBook, loadLanguageModel, packageFolder } from './load.js'
