export { type SparseVideogenOptions, sparseVideogen } from './method.js'
