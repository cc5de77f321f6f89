import {
  type AttentionConfig,
  type AttentionContext,
  type AttentionShape,
  countPairs,
  type MethodFactory,
  type MethodOptions,
  type Runtime,
} from '@sparse-attention/core'
import { expectAttentionClose } from '../error-rule.js'
import { type Inputs, makeInputs } from '../inputs.js'
import { seedFrom } from '../random.js'
import type { Reference } from '../reference.js'
import { expectSelectionClose } from '../selection-rule.js'
import { type Attended, attend, withAttention } from './attend.js'
import { type Case, caseName, caseOptions } from './cases.js'

export interface MethodUnderTest<Options extends MethodOptions> {
  readonly factory: MethodFactory<Options>
  /** Absent: the method keeps everything. */
  readonly reference?: Reference<Options> | undefined
  /** What the method needs beyond tensors. */
  readonly context?: ((shape: AttentionShape) => AttentionContext) | undefined
}

/**
 * Runs one case: nothing is read back; the selection is the reference's; output and LSE over the plan's own mask keep
 * the error rule; neutral options keep everything; nothing outside the outputs is written.
 */
export async function checkCase<Options extends MethodOptions>(
  runtime: Runtime,
  method: MethodUnderTest<Options>,
  c: Case,
  /** Besides those of the case. */
  more: Partial<Options> = {},
): Promise<void> {
  const { definition } = method.factory
  const name = [caseName(c), ...Object.entries(more).map(([option, value]) => `${option}=${value}`)].join(' ')
  const inputs = makeInputs(c.inputs, c, c.dtype, seedFrom(name))
  const options = { ...caseOptions(definition, c), ...more }
  const config = caseConfig(c)
  const context = method.context?.(c)
  const attended = await withAttention(runtime, method.factory, options, config, (attention) =>
    attend(runtime, attention, { ...c, shape: c, inputs, ...(context && { context }) }),
  )
  if (attended.readBacks > 0) throw new Error(`${name}: ${attended.readBacks} read-backs during the call`)
  checkSelection(method, options, c, inputs, attended, { name, exact: c.inputs === 'integers' })
  if (c.variant === 'neutral' || Object.keys(definition.options).length === 0) {
    const { kept, visible } = countPairs(attended.plan)
    if (kept !== visible) throw new Error(`${name}: neutral options keep ${kept} of ${visible} visible pairs`)
  }
  const { dtype } = c
  expectAttentionClose(attended, { ...c, ...inputs, scale: config.scale, mask: attended.mask, dtype, name })
}

/** What `runtime.use` gets in a case. */
export function caseConfig(c: Case): Required<AttentionConfig> {
  const { queryHeads, kvHeads, headDim, dtype, causal } = c
  const scale = c.scale === 'default' ? 1 / Math.sqrt(headDim) : c.scale
  return { queryHeads, kvHeads, headDim, dtype, causal, scale }
}

/** The selection rule, for a plan of the method or, without a reference, for the plan that keeps everything. */
export function checkSelection<Options extends MethodOptions>(
  method: MethodUnderTest<Options>,
  options: Partial<Options>,
  c: Case,
  inputs: Inputs,
  { plan }: Pick<Attended, 'plan'>,
  rule: { readonly name: string; readonly exact: boolean },
): void {
  if (!method.reference) {
    const { kept, visible } = countPairs(plan)
    if (kept === visible) return
    throw new Error(`${rule.name}: ${kept} of ${visible} pairs are kept; a method that skips some needs a reference`)
  }
  const { batch, queryHeads, kvHeads, queryLength, keyLength, headDim } = c
  const shape = { batch, queryHeads, kvHeads, queryLength, keyLength, headDim }
  const { causal, scale } = caseConfig(c)
  const context = method.context?.(shape) ?? {}
  const selection = method.reference(
    { ...shape, ...inputs, causal, scale, context, plan },
    method.factory(options).options,
  )
  expectSelectionClose(plan, selection, rule)
}
