export * from '../index.js'
export { loadHeldOutBook, loadImageClassifier, loadLanguageModel, loadVideoModel, packageFolder } from './load.js'
