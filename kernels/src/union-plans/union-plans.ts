import {
  type BlockPlanData,
  type BufferSlice,
  blockGrid,
  type Dispatch,
  planElements,
  type Runtime,
  SparseAttentionError,
} from '@sparse-attention/core'
import { checkInteger, checkWords } from '../shared/check.js'
import { packUniforms } from '../shared/uniforms.js'
import { emitUnionOfGroups, emitUnionPlans, unionOfGroupsUniforms, unionPlansUniforms } from './emit.js'

/**
 * @param plan  gets the blocks of `other` too
 * @param other of the same geometry, in another buffer
 * @throws INVALID_SHAPE, INVALID_ARGUMENT
 */
export type UnionPlans = (plan: BlockPlanData, other: BlockPlanData) => Dispatch

/**
 * @param plan      of all query heads; only its bitmap is read
 * @param kvHeads   divides its query heads
 * @param unions    in another buffer: u32[B, Hq, nq, words], or [B, Hkv, nq, words] when shared
 * @throws INVALID_ARGUMENT, BUFFER_TOO_SMALL
 */
export type UnionOfGroups = (plan: BlockPlanData, kvHeads: number, unions: BufferSlice) => Dispatch

/**
 * Adds the blocks of one plan to another: sink ∪ window ∪ top-k.
 *
 * Cost: bitmaps read once each, one written.
 */
export async function unionPlans(runtime: Runtime): Promise<UnionPlans> {
  const kernel = await runtime.kernel(emitUnionPlans())
  return (plan, other) => {
    const keys = ['batch', 'queryHeads', 'queryLength', 'keyLength', 'blockQ', 'blockK'] as const
    const differs = keys.find((key) => plan[key] !== other[key])
    if (differs) {
      throw new SparseAttentionError('INVALID_SHAPE', {
        message: `The plans have ${differs} ${plan[differs]} and ${other[differs]}.`,
        fix: 'Make both for the same call and with the same blocks.',
        where: differs,
      })
    }
    checkApart('other', other.bitmap, plan.bitmap)
    const words = planElements(plan).bitmap
    const { uniforms, workgroups } = rowsOfWords(words)
    return {
      kernel,
      bindings: [
        runtime.uniforms.get(packUniforms(unionPlansUniforms, { words, ...uniforms })),
        other.bitmap,
        plan.bitmap,
      ],
      workgroups: [...workgroups, 1],
      cost: { operations: words, bytes: 12 * words },
    }
  }
}

/**
 * The blocks that any query head of a KV head's group keeps, so that the group can share its keys (CompactAttention, arXiv
 * 2605.16839): for each query head, which leaves it a plan, or once for each KV head when `shared`.
 *
 * Cost: the plan's bitmap read once, the unions written.
 */
export async function unionOfGroups(
  runtime: Runtime,
  { shared = false }: { readonly shared?: boolean } = {},
): Promise<UnionOfGroups> {
  const kernel = await runtime.kernel(emitUnionOfGroups())
  return (plan, kvHeads, unions) => {
    const { queryBlocks, wordsPerRow } = blockGrid(plan)
    const groupSize = plan.queryHeads / kvHeads
    checkInteger('queryHeads / kvHeads', groupSize, 1, plan.queryHeads)
    const words = queryBlocks * wordsPerRow
    const groups = plan.batch * kvHeads
    const copies = shared ? 1 : groupSize
    checkInteger('batch · kvHeads', groups, 1, 65535)
    checkWords('unions', unions, groups * copies * words)
    checkApart('unions', unions, plan.bitmap)
    const { uniforms, workgroups } = rowsOfWords(words)
    return {
      kernel,
      bindings: [
        runtime.uniforms.get(
          packUniforms(unionOfGroupsUniforms, { words, ...uniforms, group_size: groupSize, copies }),
        ),
        plan.bitmap,
        unions,
      ],
      workgroups: [...workgroups, groups],
      cost: { operations: groups * groupSize * words, bytes: 4 * groups * words * (groupSize + copies) },
    }
  }
}

/** Workgroups of 64 for `words` invocations, in rows where one axis is too short. */
function rowsOfWords(words: number): { uniforms: { row_words: number }; workgroups: [x: number, y: number] } {
  const total = Math.ceil(words / 64)
  const row = Math.min(total, 65535)
  return { uniforms: { row_words: row }, workgroups: [row, Math.ceil(total / row)] }
}

/** @throws INVALID_ARGUMENT for one buffer that a dispatch would both read and write */
function checkApart(name: string, slice: BufferSlice, other: BufferSlice): void {
  if (slice.buffer !== other.buffer) return
  throw new SparseAttentionError('INVALID_ARGUMENT', {
    message: `${name} lies in the buffer of the plan.`,
    fix: 'Use memory of its own: WebGPU does not read and write one buffer in one dispatch.',
    where: name,
  })
}
