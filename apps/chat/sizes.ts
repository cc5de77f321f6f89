/** What a page offers to begin with, and at most. */
export interface Sizes {
  /** Tokens of a document that are read. */
  readonly length: number
  readonly longest: number
  /** Tokens that are written in one turn. */
  readonly newTokens: number
  /** Tokens that are kept free for turns to come, where the model's length allows. */
  readonly spare: number
  /** Every so many tokens the pages that attention keeps are looked at. */
  readonly statisticsEvery: number
}

/**
 * By the adapter: a CPU reads a page in seconds, a GPU a chapter.
 *
 * @param maxLength tokens that the model was trained on
 */
export function sizesFor(software: boolean, maxLength: number): Sizes {
  return software
    ? { length: 256, longest: Math.min(2048, maxLength), newTokens: 12, spare: 128, statisticsEvery: 4 }
    : { length: 4096, longest: maxLength, newTokens: 128, spare: 2048, statisticsEvery: 16 }
}
