import type { BufferSlice, Dispatch, Runtime } from '@sparse-attention/core'
import { checkInteger, checkWords } from '../shared/check.js'
import { packUniforms } from '../shared/uniforms.js'
import { dispatchArgumentsUniforms, emitDispatchArguments } from './emit.js'

export interface DispatchArgumentsOptions {
  /** Which of the counts. Default 0. */
  readonly index?: number
  /** Items that one workgroup does. Default 1. */
  readonly perWorkgroup?: number
  /** Workgroups along z. Default 1. */
  readonly depth?: number
}

/**
 * @param counts i32, such as those of a list
 * @param target u32[3], scratch: what `workgroups: { indirect: target }` of a later dispatch takes
 * @throws INVALID_ARGUMENT, BUFFER_TOO_SMALL
 */
export type DispatchArguments = (
  counts: BufferSlice,
  target: BufferSlice,
  options?: DispatchArgumentsOptions,
) => Dispatch

/**
 * Turns a count on the GPU into the workgroups of a dispatch, [x, y, depth] with x · y ≥ ceil(count / perWorkgroup), so that
 * work follows a selection that nobody reads back. Up to 65535 workgroups lie along x; more continue in y, so the number of
 * a workgroup is y · 65535 + x, and the kernel leaves out what lies past the count.
 *
 * Cost: nothing to speak of.
 */
export async function dispatchArguments(runtime: Runtime): Promise<DispatchArguments> {
  const kernel = await runtime.kernel(emitDispatchArguments())
  return (counts, target, { index = 0, perWorkgroup = 1, depth = 1 } = {}) => {
    checkInteger('index', index, 0, counts.sizeBytes / 4 - 1)
    checkInteger('perWorkgroup', perWorkgroup, 1, 2 ** 31 - 1)
    checkInteger('depth', depth, 1, 65535)
    checkWords('target', target, 3)
    const uniforms = packUniforms(dispatchArgumentsUniforms, { index, per_workgroup: perWorkgroup, depth })
    return {
      kernel,
      bindings: [runtime.uniforms.get(uniforms), counts, target],
      workgroups: [1, 1, 1],
      cost: { operations: 1, bytes: 16 },
    }
  }
}
