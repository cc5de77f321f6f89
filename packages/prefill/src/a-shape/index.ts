export { type AShapeOptions, aShape } from './method.js'
