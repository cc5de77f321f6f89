import type { AttentionFrame, BufferSlice, Dispatch, Runtime } from '@sparse-attention/core'
import { checkInteger, checkWords } from '../shared/check.js'
import { workgroupRanges } from '../shared/grid.js'
import { packUniforms } from '../shared/uniforms.js'
import { emitScanBlocks, emitScanReduce, exclusiveScanUniforms, SCAN_BLOCK } from './emit.js'

/** Up to here one workgroup is done before three dispatches would be. */
const SERIAL_LENGTH = 4 * SCAN_BLOCK

/**
 * @param frame  for scratch: a sum for every 2048 elements
 * @param data   u32 [length], replaced by its scan
 */
export type ExclusiveScan = (
  frame: Pick<AttentionFrame, 'scratch'>,
  data: BufferSlice,
  length: number,
) => readonly Dispatch[]

/**
 * Replaces every u32 by the sum of those before it, modulo 2^32, at any length: sums of blocks, their scan, and the scan
 * of each block from there. Three dispatches, or one for at most 8192 elements; no workgroup waits for another.
 *
 * Cost: 3 additions an element; two reads and a write.
 *
 * @throws INVALID_ARGUMENT, BUFFER_TOO_SMALL
 */
export async function exclusiveScan(runtime: Runtime): Promise<ExclusiveScan> {
  const [reduce, serial, blocks] = await Promise.all([
    runtime.kernel(emitScanReduce()),
    runtime.kernel(emitScanBlocks({ offsets: false })),
    runtime.kernel(emitScanBlocks({ offsets: true })),
  ])
  const uniforms = (length: number, grid: { first_workgroup: number; end_workgroup: number }) =>
    runtime.uniforms.get(packUniforms(exclusiveScanUniforms, { ...grid, length }))
  const serially = (data: BufferSlice, length: number): Dispatch => ({
    kernel: serial,
    bindings: [uniforms(length, { first_workgroup: 0, end_workgroup: 1 }), data],
    workgroups: [1, 1, 1],
    cost: { operations: 2 * length, bytes: 8 * length },
  })
  return (frame, data, length) => {
    checkInteger('length', length, 1, 2 ** 32 - 1)
    checkWords('data', data, length)
    if (length <= SERIAL_LENGTH) return [serially(data, length)]
    const count = Math.ceil(length / SCAN_BLOCK)
    const sums = frame.scratch(count * 4)
    const { operationsPerDispatch } = runtime.work
    const elements = (workgroups: number) => (length * workgroups) / count
    return [
      ...workgroupRanges(count, SCAN_BLOCK, operationsPerDispatch).map((range) => ({
        kernel: reduce,
        bindings: [uniforms(length, range.uniforms), data, sums],
        workgroups: range.workgroups,
        cost: { operations: elements(range.count), bytes: 4 * (elements(range.count) + range.count) },
      })),
      serially(sums, count),
      ...workgroupRanges(count, 2 * SCAN_BLOCK, operationsPerDispatch).map((range) => ({
        kernel: blocks,
        bindings: [uniforms(length, range.uniforms), data, sums],
        workgroups: range.workgroups,
        cost: { operations: 2 * elements(range.count), bytes: 4 * (2 * elements(range.count) + range.count) },
      })),
    ]
  }
}
