import type { LanguageTokenizer } from './tokenizer.js'

/** The sizes of a checkpoint, from its `config.json`. */
export interface LanguageModelConfig {
  /** Entries of the vocabulary; the last axis of the logits. */
  readonly vocabularySize: number
  readonly hiddenSize: number
  readonly layers: number
  readonly queryHeads: number
  /** KV heads; divides `queryHeads`. */
  readonly kvHeads: number
  readonly headDim: number
  readonly intermediateSize: number
  readonly ropeTheta: number
  readonly rmsNormEpsilon: number
  /** Tokens of prompt and answer together that the model was trained on. */
  readonly maxLength: number
  /** Id that every prompt starts with. */
  readonly bos: number
}

/**
 * A decoder-only language model as loaded, nothing of it running yet.
 *
 * The graph takes `input_ids` i64 [batch, length], `attention_mask` i64 [batch, past + length], `num_logits_to_keep` i64
 * scalar (0 keeps all) and per layer `past_key_values.{i}.key|value` f32 [batch, kvHeads, past, headDim]; it gives
 * `logits` f32 [batch, kept, vocabularySize] and per layer `present.{i}.key|value`.
 */
export interface LanguageModel {
  /** The ONNX file. */
  readonly model: Uint8Array<ArrayBuffer>
  readonly tokenizer: LanguageTokenizer
  readonly config: LanguageModelConfig
}
