import type { AttentionConfig, AttentionFrame, PlanData, Runtime } from '@sparse-attention/core'
import type { CompiledFlash } from '../record.js'
import type { WalkedPlan } from '../walk.js'
import { emitMatrix } from './emit.js'
import { hasMatrixKernel, type MatrixGeometry, matrixGeometries } from './geometry.js'

/** Workgroups that keep a large GPU busy: below, smaller ones finish sooner. */
const FEW_WORKGROUPS = 256

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
): Promise<readonly CompiledFlash[]> {
  const { subgroupMatrix } = runtime
  if (runtime.tier !== 'matrix' || !subgroupMatrix || !hasMatrixKernel(dtype, headDim)) return []
  const sources = defaultGeometries(headDim, plan)
    .map((geometry) => ({
      rows: geometry.rows,
      source: emitMatrix({ headDim, causal, plan, geometry, subgroupMatrix }),
    }))
    .filter(({ source }) => source.workgroupBytes <= runtime.device.limits.maxComputeWorkgroupStorageSize)
  return Promise.all(
    sources.map(async ({ rows, source }) => ({ kernel: await runtime.kernel(source), plan, rows, speed: SPEED })),
  )
}

function defaultGeometries(headDim: number, plan: WalkedPlan): readonly MatrixGeometry[] {
  // Rows of variable blocks come in runs of 64.
  const most = headDim > 128 || plan === 'variable-block' ? 64 : 128
  return matrixGeometries(headDim).filter(({ rows }) => rows <= most)
}

/** More rows a workgroup read K and V fewer times, where the plan's rows allow it and enough workgroups remain. */
export function chooseForm(
  forms: readonly CompiledFlash[],
  { batch, queryHeads, queryLength }: AttentionFrame,
  plan: PlanData,
): CompiledFlash {
  const fits = ({ rows }: CompiledFlash) =>
    Math.ceil(queryLength / rows) * queryHeads * batch >= FEW_WORKGROUPS &&
    (!('blockQ' in plan) || plan.blockQ % rows === 0)
  return forms.find(fits) ?? forms[forms.length - 1]!
}
