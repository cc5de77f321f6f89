import type { AttentionConfig, AttentionFrame, PlanData, Runtime } from '@sparse-attention/core'
import { rowPieces } from '../pieces/pieces.js'
import type { CompiledFlash } from '../record.js'
import { singleKeys } from '../single-keys.js'
import type { WalkedPlan } from '../walk.js'
import { emitMatrix } from './emit.js'
import { hasMatrixKernel, type MatrixGeometry, matrixGeometries } from './geometry.js'

/** Workgroups that keep a large GPU busy: below, smaller ones finish sooner. */
const FEW_WORKGROUPS = 256

/** Of two subgroups each: below, those with four finish sooner, as one or two of them have a multiprocessor for themselves. */
const FEW_SMALL_WORKGROUPS = 512

/** One geometry, and how many of its workgroups a call must have for it to be taken. */
export interface MatrixForm extends MatrixGeometry {
  readonly workgroups: number
}

/** What runs where nothing better is known, the form with the most rows first; the last takes every call. */
export function defaultMatrixForms(headDim: number): readonly MatrixForm[] {
  const most = headDim > 128 ? 64 : 128
  const geometries = matrixGeometries(headDim)
  const first = geometries.findIndex(({ rows }) => rows === most)
  return formsFrom(geometries, first, FEW_WORKGROUPS)
}

/** Sets of forms to choose from by measuring: each geometry as the first, and several numbers of workgroups to take it from. */
export function matrixFormSets(headDim: number): readonly (readonly MatrixForm[])[] {
  const few = [FEW_WORKGROUPS / 2, FEW_WORKGROUPS, 2 * FEW_WORKGROUPS]
  return matrixGeometries(headDim).flatMap(({ rows }, first, geometries) =>
    (rows === 64 ? [0] : few).map((workgroups) => formsFrom(geometries, first, workgroups)),
  )
}

/** A geometry, of those with fewer rows the usual ones, and of 64 rows all: the last is for few workgroups. */
function formsFrom(geometries: readonly MatrixGeometry[], first: number, workgroups: number): readonly MatrixForm[] {
  const most = geometries[first]!.rows
  const taken = geometries
    .slice(first)
    .filter(({ rows }, i, all) => rows === 64 || i === 0 || (rows < most && rows !== all[i - 1]!.rows))
  return taken.map((geometry, i) => {
    if (i === taken.length - 1) return { ...geometry, workgroups: 0 }
    return { ...geometry, workgroups: geometry.rows === 64 ? FEW_SMALL_WORKGROUPS : workgroups }
  })
}

/** Of matrix units over plain ones, at least: smaller dispatches would leave a large GPU idle at the end of each. */
const SPEED = 16

export interface MatrixFormsOptions {
  readonly forms?: readonly MatrixForm[]
  /** Nobody will give a plan: compile no kernels for one. */
  readonly denseOnly?: boolean
  /** Rows vote on the blocks of plans, of so many keys. */
  readonly votes?: number | undefined
}

/** Storage buffers of the kernel that computes pieces and votes: one more than WebGPU promises. */
const VOTING_PIECES_BUFFERS = 9

/**
 * Compiles the forms of the matrix kernel that this attention can need, the one with the most rows per workgroup first. None
 * where the tier, the shape or the device's workgroup memory has no room for it.
 */
export async function matrixForms(
  runtime: Runtime,
  { dtype, headDim, causal }: Required<AttentionConfig>,
  plan: WalkedPlan,
  { forms = defaultMatrixForms(headDim), denseOnly = false, votes }: MatrixFormsOptions = {},
): Promise<readonly CompiledFlash[]> {
  const { subgroupMatrix } = runtime
  if (runtime.tier !== 'matrix' || !subgroupMatrix || !hasMatrixKernel(dtype, headDim)) return []
  const buffers = runtime.device.limits.maxStorageBuffersPerShaderStage
  const balanced = plan === 'block' && !denseOnly && (votes === undefined || buffers >= VOTING_PIECES_BUFFERS)
  const emitted = forms
    // Rows of variable blocks come in runs of 64. Gathering keys is what short stripe plans wait for, whatever the subgroups.
    .filter(({ rows }) => plan !== 'variable-block' || rows === 64)
    .filter((form, i, all) => plan !== 'stripe' || form.rows !== all[i - 1]?.rows)
    .flatMap(({ workgroups, ...geometry }) =>
      // Plans of blocks are balanced; a dense call has nothing to balance and starts sooner without.
      (balanced ? [true, false] : [false]).map((pieces) => {
        // Votes are on the blocks of a plan: where plans have kernels of their own, dense calls need none.
        const voting = votes !== undefined && pieces === balanced ? { votes } : {}
        return {
          form: { plan, rows: geometry.rows, workgroups, speed: SPEED, votes: 'votes' in voting },
          pieces,
          source: emitMatrix({ headDim, causal, plan, ...voting, pieces, geometry, subgroupMatrix }),
        }
      }),
    )
    .filter(({ source }) => source.workgroupBytes <= runtime.device.limits.maxComputeWorkgroupStorageSize)
  return Promise.all(
    emitted.map(async ({ form, pieces, source }) => {
      const [kernel, cut, single] = await Promise.all([
        runtime.kernel(source),
        pieces ? rowPieces(runtime, headDim, form.rows) : undefined,
        plan === 'stripe' && !denseOnly ? singleKeys(runtime) : undefined,
      ])
      return { kernel, ...form, ...(cut && { pieces: cut }), ...(single && { singleKeys: single }) }
    }),
  )
}

/** More rows a workgroup read K and V fewer times, where the plan's rows allow it and enough workgroups remain. */
export function chooseForm(
  forms: readonly CompiledFlash[],
  { batch, queryHeads, queryLength }: AttentionFrame,
  plan: PlanData,
): CompiledFlash {
  const fits = ({ rows, workgroups = 0 }: CompiledFlash) =>
    Math.ceil(queryLength / rows) * queryHeads * batch >= workgroups &&
    (!('blockQ' in plan) || plan.blockQ % rows === 0)
  const balanced = plan.kind === 'block' && forms.some(({ pieces }) => pieces)
  const able = forms.filter(({ pieces }) => (pieces !== undefined) === balanced)
  return able.find(fits) ?? able[able.length - 1]!
}
