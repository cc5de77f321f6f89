import type { BufferSlice, Dispatch, Runtime } from '@sparse-attention/core'
import { checkInteger, checkWords } from '../shared/check.js'
import { workgroupRanges } from '../shared/grid.js'
import { packUniforms } from '../shared/uniforms.js'
import { emitSortKeys, KEYS_PER_WORKGROUP, sortKeysUniforms } from './emit.js'

/**
 * @param scores f32 [count], any numbers: −0 ties with 0, NaN counts as −∞
 * @param keys   u32 [count], written
 */
export type SortKeys = (
  count: number,
  scores: BufferSlice,
  keys: BufferSlice,
  direction: 'ascending' | 'descending',
) => readonly Dispatch[]

/**
 * Keys with which `radixSort` orders floating-point numbers from small to large or from large to small; ties keep their
 * order both ways.
 *
 * Cost: bit operations; scores read, keys written.
 *
 * @throws INVALID_ARGUMENT, BUFFER_TOO_SMALL
 */
export async function sortKeys(runtime: Runtime): Promise<SortKeys> {
  const kernel = await runtime.kernel(emitSortKeys())
  return (count, scores, keys, direction) => {
    checkInteger('count', count, 1, 2 ** 31)
    checkWords('scores', scores, count)
    checkWords('keys', keys, count)
    const flip = direction === 'descending' ? 0xffffffff : 0
    return workgroupRanges(Math.ceil(count / KEYS_PER_WORKGROUP), 0, runtime.work.operationsPerDispatch).map(
      (range) => ({
        kernel,
        bindings: [
          runtime.uniforms.get(packUniforms(sortKeysUniforms, { ...range.uniforms, count, flip })),
          scores,
          keys,
        ],
        workgroups: range.workgroups,
        cost: { operations: 0, bytes: 8 * count },
      }),
    )
  }
}
