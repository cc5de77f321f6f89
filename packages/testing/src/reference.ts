import type { AttentionContext, AttentionShape, HostPlan, MethodOptions } from '@sparse-attention/core'

/**
 * What a method's reference works on: contiguous float64 tensors, already rounded to the dtype under test.
 * B batch · Hq, Hkv query and KV heads · Lq, Lk query and key length · D head dim.
 */
export interface ReferenceInput extends AttentionShape {
  /** [B, Hq, Lq, D] */
  readonly q: Float64Array
  /** [B, Hkv, Lk, D]; query head h reads KV head ⌊h·Hkv/Hq⌋ */
  readonly k: Float64Array
  /** [B, Hkv, Lk, D] */
  readonly v: Float64Array
  /** Bottom-right: query i sees keys j ≤ i + Lk − Lq. */
  readonly causal: boolean
  /** Factor on QKᵀ. */
  readonly scale: number
  readonly context: AttentionContext
  /**
   * What the method selected. Of methods that arrange tokens before they select, such as by clusters: where rounding may arrange
   * some of them otherwise, a reference checks the arrangement, and gives the selection that follows from it. Absent where only
   * block sizes are asked for.
   */
  readonly plan?: HostPlan
}

/**
 * A ranking made once for a head, of key columns or of diagonals: offset o is the pairs whose key lies o places before the
 * query's own position, row + Lk − Lq. An entry that is chosen asks for all of its visible pairs. Entries: Lk of a head.
 */
export interface HeadRanking {
  readonly of: 'columns' | 'diagonals'
  /** u8[B, Hq, Lk]: 1 where the entry is chosen, forced ones included. */
  readonly kept: Uint8Array
  /** u8[B, Hq, Lk]: 1 where the entry is chosen whatever its score. */
  readonly forced: Uint8Array
  /** f64[B, Hq, Lk], not negative: what the rule ranks, and the mass that an entry stands for. */
  readonly scores: Float64Array
  /** f64[B, Hq]: the smallest change of a score that makes the rule choose another set; +∞ when none can. */
  readonly gap: Float64Array
}

/**
 * What the selection rule keeps, in float64, and how far each row is from deciding otherwise.
 * nq = ceil(Lq / blockQ), nk = ceil(Lk / blockK). A "row" is one query block of one head.
 */
export interface ReferenceSelection {
  /** In tokens; the same as of the method's plan. */
  readonly blockQ: number
  readonly blockK: number
  /** u8[B, Hq, nq, nk]: 1 where the block is computed. Blocks without a visible pair may be either. */
  readonly kept: Uint8Array
  /** u8[B, Hq, nq, nk]: 1 where the block is kept whatever its score. Absent: nothing is forced. */
  readonly forced?: Uint8Array
  /**
   * f64[B, Hq, nq, nk]: what the rule ranks. NaN for a block that is not a candidate (nothing visible in it).
   * Absent: the rule looks at no score (a static pattern), so every row is compared exactly.
   */
  readonly scores?: Float64Array
  /**
   * f64[B, Hq, nq], in the unit of `scores`: the smallest change that makes the rule keep another set. +∞ when none can.
   *
   * - top-k: k-th minus (k+1)-th score;
   * - threshold t: min |score − t|;
   * - top-p, with e₁ ≥ e₂ ≥ … in the order of the rule, m of them kept and T their total:
   *   min(e_m − e_{m+1}, p·T − (e₁+…+e_{m−1}), (e₁+…+e_m) − p·T), leaving out terms that involve a forced block.
   *
   * Needed with `scores`.
   */
  readonly gap?: Float64Array
  /**
   * f64[B, Hq, nq, nk], not negative: the share of a row that a block stands for, up to a factor. Compared where two
   * scores are too close to call. Absent: `scores`, which then must not be negative.
   */
  readonly mass?: Float64Array
  /**
   * f64[B, Hq, nq], in the unit of `mass`: of top-p, p·T. A row that is too close to call may keep one block more or fewer where the
   * threshold falls on the border of one, whatever that block's mass: what it keeps holds the target, and would not without its least.
   */
  readonly target?: Float64Array
  /**
   * Instead of `scores`, for rules that decide once for a head: needs `blockK` 1. Where a head's gap is close, its rows need
   * not equal `kept`, which may hold more than is asked for, but must cover forced entries and the mass of those chosen.
   */
  readonly headRankings?: readonly HeadRanking[]
}

/** A method's selection rule as plain loops in float64: its meaning. Options arrive filled in with defaults. */
export type Reference<Options extends MethodOptions = MethodOptions> = (
  input: ReferenceInput,
  options: Required<Options>,
) => ReferenceSelection
