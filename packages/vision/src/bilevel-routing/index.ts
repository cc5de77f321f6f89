export { type BilevelRoutingOptions, bilevelRouting } from './method.js'
