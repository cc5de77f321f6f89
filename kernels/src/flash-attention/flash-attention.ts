import type {
  AttentionConfig,
  AttentionFrame,
  BlockPlanData,
  Dispatch,
  PlanData,
  Runtime,
} from '@sparse-attention/core'
import { type ChosenVariant, chooseVariant } from '../tuning/choose-variant.js'
import { chooseForm, matrixForms } from './matrix/forms.js'
import { ROWS } from './options.js'
import { emitPortable, portableTiling } from './portable.js'
import { type BlockVotes, type CompiledFlash, recordFlash } from './record.js'
import { rowItems } from './row-items.js'
import { defaultVariant, emitVariant, fitsDevice } from './variants.js'
import type { WalkedPlan } from './walk.js'

/** Attends over any plan: records dispatches that write every element of `frame.out` and `frame.lse`. */
export type Attend = (frame: AttentionFrame, plan: PlanData) => readonly Dispatch[]

export interface FlashAttentionKernelOptions {
  /** Kind of the plans that it walks besides dense ones. Default 'block'. */
  readonly plan?: WalkedPlan
  /** How it is computed. Default: what tuning, or what is known of the adapter, says is fastest. */
  readonly variant?: ChosenVariant
  /** Nobody will give a plan: compile no kernels that balance one. Default false. */
  readonly denseOnly?: boolean
}

/**
 * Compiles flash attention, dense and over plans of one kind: blocks whose block_q is a multiple of 64, stripes in at most
 * two lists, or blocks of different sizes.
 *
 * Cost, dense: 4 · B · Hq · (visible pairs) · D operations; q, k, v and out once in bytes.
 *
 * @throws UNSUPPORTED from the returned function, for a plan of another kind
 */
export async function flashAttention(
  runtime: Runtime,
  config: Required<AttentionConfig>,
  { plan = 'block', variant = chooseVariant(runtime, config), denseOnly = false }: FlashAttentionKernelOptions = {},
): Promise<Attend> {
  const [forms, items] = await Promise.all([
    compileForms(runtime, config, plan, variant, { denseOnly }),
    plan === 'variable-block' ? rowItems(runtime) : undefined,
  ])
  const flash = forms.map((form) => ({ ...form, ...(items && { rowItems: items }) }))
  return (frame, data) => recordFlash(runtime, chooseForm(flash, frame, data), frame, data)
}

async function compileForms(
  runtime: Runtime,
  config: Required<AttentionConfig>,
  plan: WalkedPlan,
  { variant, operationsPerSecond }: ChosenVariant,
  { denseOnly = false, votes }: { readonly denseOnly?: boolean; readonly votes?: number } = {},
): Promise<readonly CompiledFlash[]> {
  const voting = votes === undefined ? {} : { votes }
  const known = operationsPerSecond === undefined ? {} : { operationsPerSecond }
  if (variant.emitter === 'matrix') {
    const forms = await matrixForms(runtime, config, plan, { forms: variant.forms, denseOnly, votes })
    if (forms.length > 0) return forms.map((form) => ({ ...form, ...known }))
    return compileForms(runtime, config, plan, { variant: defaultVariant({ tier: 'f16' }, config) }, voting)
  }
  const { dtype, headDim, causal } = config
  const [source] = emitVariant(runtime, variant, { dtype, headDim, causal, plan, ...voting })
  // Some walks need workgroup memory of their own.
  if (!fitsDevice(runtime, source!))
    return compileForms(runtime, config, plan, { variant: defaultVariant(runtime, config) }, voting)
  return [{ kernel: await runtime.kernel(source!), plan, rows: ROWS, votes: votes !== undefined, ...known }]
}

/**
 * @param votes  who gets the votes on the blocks of `plan`, whose blocks must have the keys that it was compiled for. Absent, or
 *   with a dense plan: nobody votes
 */
export type VotingAttend = (frame: AttentionFrame, plan: PlanData, votes?: BlockVotes) => readonly Dispatch[]

/**
 * Flash attention over plans of blocks whose query blocks vote on each of their key blocks while they compute it: it is needed
 * when in some row its largest score exceeds the row's maximum over the blocks before it plus a threshold (LiteAttention,
 * arXiv 2511.11062). A row's first block is always needed; rows behind the last query do not vote. Blocks are visited in
 * ascending order. Where a row of blocks is computed in pieces, each piece begins with a maximum of its own, and so needs
 * more blocks at most. Equal inputs give equal votes.
 *
 * Cost: as `flashAttention`, and a comparison for each tile of a row.
 *
 * @param blockK  keys of the blocks that are voted on: a multiple of 64
 */
export async function votingFlashAttention(
  runtime: Runtime,
  config: Required<AttentionConfig>,
  { blockK }: { readonly blockK: number },
): Promise<VotingAttend> {
  const flash = await compileForms(runtime, config, 'block', chooseVariant(runtime, config), { votes: blockK })
  return (frame, plan, votes) =>
    recordFlash(runtime, chooseForm(flash, frame, plan), frame, plan, plan.kind === 'dense' ? {} : { votes })
}

/** Query rows and keys of the tiles that a skipping attention decides about, the same on every tier. */
export function skipTile(headDim: number): { readonly rows: number; readonly keys: number } {
  return { rows: ROWS, keys: portableTiling(headDim).tileKeys }
}

export interface SkipOptions {
  /** Natural log, at most 0: a tile counts when some row's largest score in it exceeds the row's maximum so far plus this. */
  readonly threshold: number
  /** true: tiles that do not count are left out at once; false: they are computed, and only marked. */
  readonly now: boolean
}

/**
 * @param plan  dense or of blocks: tiles outside of it are neither computed nor marked
 * @param kept  receives which tiles counted: a block plan of `skipTile` rows and keys
 */
export type SkippingAttend = (
  frame: AttentionFrame,
  plan: PlanData,
  skip: SkipOptions,
  kept: BlockPlanData,
) => readonly Dispatch[]

/**
 * Flash attention that decides for each tile from its scores whether its values are worth reading: when no row's largest
 * score in the tile comes within `threshold` of the row's running maximum, the tile's softmax and value product are left
 * out (BLASST, arXiv 2512.12087), or the tile is marked so that a later call may leave it out (LiteAttention, 2511.11062).
 * A row's first visible tile always counts. Tiles are visited in ascending order.
 *
 * Cost: scores as `flashAttention`; the value half of the operations and bytes only for tiles that count.
 */
export async function skippingFlashAttention(
  runtime: Runtime,
  config: Required<AttentionConfig>,
): Promise<SkippingAttend> {
  const { dtype, headDim, causal } = config
  const kernel = await runtime.kernel(emitPortable({ dtype, headDim, causal, plan: 'block', skip: true }))
  const flash = { kernel, plan: 'block', rows: ROWS } as const
  const { keys: tileKeys } = skipTile(headDim)
  return (frame, plan, { threshold, now }, kept) =>
    recordFlash(runtime, flash, frame, plan, { skip: { threshold, now, kept: kept.bitmap, tileKeys } })
}
