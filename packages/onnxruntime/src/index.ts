export type { AttentionNode, AttentionOpType } from './attention-node.js'
export {
  AttentionModel,
  type LoadOptions,
  type LoadProgress,
  type ModelDescription,
  type ModelRunOptions,
  type OutputLocation,
} from './model.js'
export type { Ort, Provider, SessionOptions } from './ort.js'
export type { AttentionEvent, AttentionMethod } from './replaced-attention.js'
