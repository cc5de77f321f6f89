import type { AttentionConfig, AttentionFrame, PlanData, Runtime } from '@sparse-attention/core'
import { rowPieces } from '../pieces/pieces.js'
import type { CompiledFlash } from '../record.js'
import type { WalkedPlan } from '../walk.js'
import { emitMatrix } from './emit.js'
import { hasMatrixKernel, type MatrixGeometry, matrixGeometries } from './geometry.js'

/** Workgroups that keep a large GPU busy: below, smaller ones finish sooner. */
const FEW_WORKGROUPS = 256

/** One geometry, and how many of its workgroups a call must have for it to be taken. */
export interface MatrixForm extends MatrixGeometry {
  readonly workgroups: number
}

/** What runs where nothing better is known, the form with the most rows first; the last takes every call. */
export function defaultMatrixForms(headDim: number): readonly MatrixForm[] {
  return formsUpTo(headDim, headDim > 128 ? 64 : 128, FEW_WORKGROUPS)
}

/** Sets of forms to choose from by measuring, for calls of this head_dim. */
export function matrixFormSets(headDim: number): readonly (readonly MatrixForm[])[] {
  const most = [...new Set(matrixGeometries(headDim).map(({ rows }) => rows))]
  const few = [FEW_WORKGROUPS / 2, FEW_WORKGROUPS, 2 * FEW_WORKGROUPS]
  // Forms of the fewest rows take every call, so there is no number to choose.
  return most.flatMap((rows) => (rows === 64 ? [64] : few).map((workgroups) => formsUpTo(headDim, rows, workgroups)))
}

function formsUpTo(headDim: number, most: number, workgroups: number): readonly MatrixForm[] {
  return matrixGeometries(headDim)
    .filter(({ rows }) => rows <= most)
    .map((geometry) => ({ ...geometry, workgroups: geometry.rows === 64 ? 0 : workgroups }))
}

/** Of matrix units over plain ones, at least: smaller dispatches would leave a large GPU idle at the end of each. */
const SPEED = 16

/**
 * Compiles the forms of the matrix kernel that this attention can need, the one with the most rows per workgroup first. None
 * where the tier, the shape or the device's workgroup memory has no room for it.
 */
export async function matrixForms(
  runtime: Runtime,
  { dtype, headDim, causal }: Required<AttentionConfig>,
  plan: WalkedPlan,
  forms: readonly MatrixForm[] = defaultMatrixForms(headDim),
): Promise<readonly CompiledFlash[]> {
  const { subgroupMatrix } = runtime
  if (runtime.tier !== 'matrix' || !subgroupMatrix || !hasMatrixKernel(dtype, headDim)) return []
  const emitted = forms
    // Rows of variable blocks come in runs of 64.
    .filter(({ rows }) => plan !== 'variable-block' || rows === 64)
    .flatMap(({ workgroups, ...geometry }) =>
      // Plans of blocks are balanced; a dense call has nothing to balance and starts sooner without.
      (plan === 'block' ? [true, false] : [false]).map((pieces) => ({
        form: { plan, rows: geometry.rows, workgroups, speed: SPEED },
        pieces,
        source: emitMatrix({ headDim, causal, plan, pieces, geometry, subgroupMatrix }),
      })),
    )
    .filter(({ source }) => source.workgroupBytes <= runtime.device.limits.maxComputeWorkgroupStorageSize)
  return Promise.all(
    emitted.map(async ({ form, pieces, source }) => {
      const [kernel, cut] = await Promise.all([
        runtime.kernel(source),
        pieces ? rowPieces(runtime, headDim, form.rows) : undefined,
      ])
      return { kernel, ...form, ...(cut && { pieces: cut }) }
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
