export { type SparseVideogen2Options, sparseVideogen2 } from './method.js'
