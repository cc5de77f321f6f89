export { decodeAttention, decodeOptions, isDenseLayer } from './decode-attention.js'
export {
  type Estimate,
  estimateMetadata,
  everyPage,
  type PageSelector,
  type Pruner,
  questSelector,
  type Selection,
  selectionPlan,
  topPPruner,
} from './page-selector.js'
export { type PageSource, pageSource } from './page-source.js'
