/** A stage of the network: blocks that share a map of tokens. */
export interface ClassifierStage {
  /** Blocks, each with one attention. */
  readonly blocks: number
  readonly channels: number
  readonly heads: number
  /** Tokens of the map: [height, width]. */
  readonly grid: readonly [height: number, width: number]
  /** How its attention was trained; undefined: dense. */
  readonly routing: { readonly regions: number; readonly topK: number } | undefined
}

/** The sizes of a checkpoint, from its `config.json`. */
export interface ImageClassifierConfig {
  /** Pixels of each side of what the network sees. */
  readonly imageSize: number
  /** Pixels that the shorter side of a picture is scaled to, before its middle is cut out. */
  readonly resizeShorter: number
  /** Of red, green and blue in 0 … 1, taken off. */
  readonly mean: readonly [number, number, number]
  /** Of red, green and blue in 0 … 1, divided by. */
  readonly std: readonly [number, number, number]
  readonly stages: readonly ClassifierStage[]
  /** Their names, in the order of the logits. */
  readonly classes: readonly string[]
}

/**
 * An image classifier as loaded, nothing of it running yet.
 *
 * The graph takes `pixel_values` f32 [batch, 3, imageSize, imageSize], which `preprocess` makes, and gives `logits` f32
 * [batch, classes]. Its attentions run in the order of the stages, tokens in rows of the map.
 */
export interface ImageClassifier {
  /** The ONNX file. */
  readonly model: Uint8Array<ArrayBuffer>
  readonly config: ImageClassifierConfig
}

export interface LikelyClass {
  readonly name: string
  readonly logit: number
  /** Softmax over all classes. */
  readonly probability: number
}

/** The stage that an attention belongs to, by its place among the attentions of the model. */
export function stageOfLayer({ stages }: ImageClassifierConfig, layer: number): ClassifierStage {
  let first = layer
  for (const stage of stages) {
    if (first < stage.blocks) return stage
    first -= stage.blocks
  }
  throw new RangeError(`The model has no attention ${layer}.`)
}

/**
 * The likeliest classes of a picture, first first; equal ones in their order.
 *
 * @param logits of one picture, one for each class
 */
export function likeliestClasses(
  { classes }: ImageClassifierConfig,
  logits: ArrayLike<number>,
  count = 5,
): readonly LikelyClass[] {
  const values = Array.from(logits)
  const most = Math.max(...values)
  const sum = values.reduce((total, logit) => total + Math.exp(logit - most), 0)
  return values
    .map((logit, index) => ({ name: classes[index]!, logit, probability: Math.exp(logit - most) / sum }))
    .sort((a, b) => b.logit - a.logit)
    .slice(0, count)
}
