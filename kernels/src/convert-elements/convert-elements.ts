import type { BufferSlice, Dispatch, DType, Runtime } from '@sparse-attention/core'
import { checkInteger, checkWords } from '../shared/check.js'
import { workgroupRanges } from '../shared/grid.js'
import { packUniforms } from '../shared/uniforms.js'
import { convertElementsUniforms, ELEMENTS_PER_UNIT, emitConvertElements, UNITS_PER_WORKGROUP } from './emit.js'

/**
 * @param count  elements; up to the next multiple of 8, what lies behind them is converted too
 * @param source f32 [count] for halves, f16 [count] for floats
 * @param result written: the same numbers in the other dtype
 */
export type ConvertElements = (count: number, source: BufferSlice, result: BufferSlice) => readonly Dispatch[]

/**
 * Numbers in another dtype: f32 rounded to f16, beyond ±65504 that; or f16 as f32, which is exact.
 *
 * Cost: no arithmetic; 6 bytes an element.
 *
 * @param to the dtype of the result
 * @throws INVALID_ARGUMENT, BUFFER_TOO_SMALL
 */
export async function convertElements(runtime: Runtime, to: DType): Promise<ConvertElements> {
  const kernel = await runtime.kernel(emitConvertElements(to))
  return (count, source, result) => {
    checkInteger('count', count, 1, 2 ** 31)
    const units = Math.ceil(count / ELEMENTS_PER_UNIT)
    const words = { f32: 8 * units, f16: 4 * units }
    checkWords('source', source, to === 'f16' ? words.f32 : words.f16)
    checkWords('result', result, words[to])
    return workgroupRanges(Math.ceil(units / UNITS_PER_WORKGROUP), 0, runtime.work.operationsPerDispatch).map(
      (range) => ({
        kernel,
        bindings: [
          runtime.uniforms.get(packUniforms(convertElementsUniforms, { ...range.uniforms, units })),
          source,
          result,
        ],
        workgroups: range.workgroups,
        cost: { operations: 0, bytes: 6 * count },
      }),
    )
  }
}
