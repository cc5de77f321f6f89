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
import { type CompiledFlash, recordFlash } from './record.js'
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
    compileForms(runtime, config, plan, variant, denseOnly),
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
  denseOnly = false,
): Promise<readonly CompiledFlash[]> {
  const known = operationsPerSecond === undefined ? {} : { operationsPerSecond }
  if (variant.emitter === 'matrix') {
    const forms = await matrixForms(runtime, config, plan, { forms: variant.forms, denseOnly })
    if (forms.length > 0) return forms.map((form) => ({ ...form, ...known }))
    return compileForms(runtime, config, plan, { variant: defaultVariant({ tier: 'f16' }, config) })
  }
  const { dtype, headDim, causal } = config
  const [source] = emitVariant(runtime, variant, { dtype, headDim, causal, plan })
  // Some walks need workgroup memory of their own.
  if (!fitsDevice(runtime, source!))
    return compileForms(runtime, config, plan, { variant: defaultVariant(runtime, config) })
  return [{ kernel: await runtime.kernel(source!), plan, rows: ROWS, ...known }]
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
    recordFlash(runtime, flash, frame, plan, { threshold, now, kept: kept.bitmap, tileKeys })
}
