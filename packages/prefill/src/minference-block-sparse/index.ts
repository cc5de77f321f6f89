export { type MinferenceBlockSparseOptions, minferenceBlockSparse } from './method.js'
