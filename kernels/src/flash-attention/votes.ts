import type { FlashAttentionOptions } from './options.js'

/**
 * Statements by which rows vote on the blocks of a block plan, as LiteAttention does (arXiv 2511.11062, Algorithm 2): a block is
 * needed when some row's largest score in it comes within a threshold of that row's maximum over the blocks before it. A
 * row's first block is always needed. At a threshold of at most 0 that is so as soon as some keys of the block come within it of
 * the maximum over all keys before them: keys that raise the maximum are themselves above it. Only bits are set, so that any number of workgroups may share a word, in any order.
 */
export interface Votes {
  /** Module scope. */
  readonly declarations: string
  /** Of an invocation, before the first tile: what its rows have needed of the blocks of one word. */
  readonly start: string
  /** Before the first tile of a word's blocks, given the block: hands in the votes of the word before. */
  readonly enter: (block: string) => string
  /** A statement: this block is needed if the condition holds. */
  readonly cast: (block: string, condition: string) => string
  /** Hands in what is left, behind the last tile. */
  readonly end: string
}

/** @param voter  an expression: the invocation votes for a row that exists, and no other does for it */
export function voting({ votes }: Pick<FlashAttentionOptions, 'votes'>, voter: string): Votes | undefined {
  if (votes === undefined) return undefined
  return {
    declarations: `\
const VOTE_KEYS = ${votes}u; // of a block

fn hand_in(at: u32, votes: u32, voter: bool) {
  if (voter && votes != 0u) { atomicOr(&needed[at], votes); }
}`,
    start: `\
var votes = 0u;
var vote_word = 0u;`,
    enter: (block) => `\
if (u.vote != 0u && ${block} / 32u != vote_word) {
  hand_in(plan_row * u.plan_words + vote_word, votes, ${voter});
  votes = 0u;
  vote_word = ${block} / 32u;
}`,
    cast: (block, condition) => `if (${condition}) { votes |= 1u << (${block} % 32u); }`,
    end: `if (u.vote != 0u) { hand_in(plan_row * u.plan_words + vote_word, votes, ${voter}); }`,
  }
}
