import { describe, expect, test } from 'vitest'
import type { ErrorCode } from './errors.js'
import type { AttentionConfig, AttentionTensors, Capabilities } from './method.js'
import { contiguousStrides, type DType, elementCount, permute, type Tensor } from './tensor.js'
import { resolveConfig, validateTensors } from './validate-attention.js'

const capabilities: Capabilities = {
  causal: [true, false],
  queryLength: 'any',
  dtypes: ['f32', 'f16'],
  headDim: { multipleOf: 8, max: 256 },
}
const given: AttentionConfig = { queryHeads: 4, kvHeads: 2, headDim: 16, dtype: 'f32', causal: true }
const config = resolveConfig('example', capabilities, given)
const limits = { maxStorageBufferBindingSize: 2 ** 27 } as GPUSupportedLimits

const refusal = (code: ErrorCode, where?: string) => expect.objectContaining(where ? { code, where } : { code })

function tensor(
  shape: readonly number[],
  dtype: DType = 'f32',
  more: Partial<Tensor> & { usage?: number } = {},
): Tensor {
  const { usage = 0x80, ...rest } = more
  const buffer = { size: elementCount(shape) * 4 + 4096, usage } as GPUBuffer
  return { buffer, dtype, shape, strides: contiguousStrides(shape), offset: 0, ...rest }
}

/** Valid tensors: batch 2, 4 query heads on 2 KV heads, 5 queries, 7 keys, head_dim 16. */
function tensors(overrides: Partial<Record<'q' | 'k' | 'v' | 'out' | 'lse', Tensor>> = {}): AttentionTensors {
  return { q: tensor([2, 4, 5, 16]), k: tensor([2, 2, 7, 16]), v: tensor([2, 2, 7, 16]), ...overrides }
}

const validate = (
  overrides: Parameters<typeof tensors>[0] = {},
  more: { capabilities?: Capabilities; limits?: GPUSupportedLimits } = {},
) => validateTensors('example', more.capabilities ?? capabilities, config, tensors(overrides), more.limits ?? limits)

describe('a configuration', () => {
  test('gets its defaults', () => {
    const { kvHeads: _, ...bare } = given
    expect(resolveConfig('example', capabilities, bare)).toEqual({ ...given, kvHeads: 4, scale: 0.25 })
    expect(resolveConfig('example', capabilities, { ...given, scale: 0.5 }).scale).toBe(0.5)
    expect(Object.keys(resolveConfig('example', capabilities, { ...given, extra: 1 } as never))).not.toContain('extra')
  })

  test.each<[Partial<AttentionConfig>, ErrorCode, string]>([
    [{ queryHeads: 0 }, 'INVALID_ARGUMENT', 'queryHeads'],
    [{ queryHeads: 1.5 }, 'INVALID_ARGUMENT', 'queryHeads'],
    [{ queryHeads: Number.NaN }, 'INVALID_ARGUMENT', 'queryHeads'],
    [{ queryHeads: 65536 }, 'INVALID_ARGUMENT', 'queryHeads'],
    [{ kvHeads: 0 }, 'INVALID_ARGUMENT', 'kvHeads'],
    [{ kvHeads: -2 }, 'INVALID_ARGUMENT', 'kvHeads'],
    [{ kvHeads: 3 }, 'INVALID_ARGUMENT', 'kvHeads'],
    [{ kvHeads: 8 }, 'INVALID_ARGUMENT', 'kvHeads'],
    [{ headDim: 0 }, 'UNSUPPORTED', 'headDim'],
    [{ headDim: 12 }, 'UNSUPPORTED', 'headDim'],
    [{ headDim: 264 }, 'UNSUPPORTED', 'headDim'],
    [{ headDim: Number.NaN }, 'UNSUPPORTED', 'headDim'],
    [{ dtype: 'bf16' as never }, 'INVALID_DTYPE', 'dtype'],
    [{ causal: 'yes' as never }, 'UNSUPPORTED', 'causal'],
    [{ scale: Number.NaN }, 'INVALID_ARGUMENT', 'scale'],
    [{ scale: Number.POSITIVE_INFINITY }, 'INVALID_ARGUMENT', 'scale'],
  ])('with %j is %s of %s', (wrong, code, where) => {
    expect(() => resolveConfig('example', capabilities, { ...given, ...wrong })).toThrow(refusal(code, where))
  })

  test('that the method does not take is refused with what it takes', () => {
    const narrow: Capabilities = { ...capabilities, causal: [true], dtypes: ['f16'] }
    expect(() => resolveConfig('example', narrow, given)).toThrow('Use one of f16.')
    expect(() => resolveConfig('example', narrow, { ...given, dtype: 'f16', causal: false })).toThrow(
      'It takes causal: true.',
    )
  })
})

describe('tensors', () => {
  test('that fit give the shape of the call', () => {
    const outputs = { out: tensor([2, 4, 5, 16]), lse: tensor([2, 4, 5]) }
    expect(validate(outputs)).toEqual({
      batch: 2,
      queryHeads: 4,
      kvHeads: 2,
      queryLength: 5,
      keyLength: 7,
      headDim: 16,
    })
  })

  test('may be strided views with a contiguous last axis', () => {
    const memory = tensor([2, 5, 4, 16], 'f32', { strides: [5 * 80, 80, 16, 1], offset: 4 })
    validate({
      q: permute(memory, [0, 2, 1, 3]),
      out: permute({ ...memory, buffer: { ...memory.buffer } as GPUBuffer }, [0, 2, 1, 3]),
    })
  })

  test('axes of size 1 may have any stride', () => {
    const one = tensor([1, 4, 5, 16], 'f32', { strides: [3, 80, 16, 1] })
    validate({ q: one, k: tensor([1, 2, 7, 16]), v: tensor([1, 2, 7, 16]) })
  })

  test.each<[string, Parameters<typeof tensors>[0], ErrorCode, string]>([
    ['q of 3 axes', { q: tensor([4, 5, 16]) }, 'INVALID_SHAPE', 'q'],
    ['a length of zero', { q: tensor([2, 4, 0, 16]) }, 'INVALID_SHAPE', 'q'],
    ['no keys', { k: tensor([2, 2, 0, 16]) }, 'INVALID_SHAPE', 'k'],
    ['other query heads', { q: tensor([2, 8, 5, 16]) }, 'INVALID_SHAPE', 'q'],
    ['other KV heads', { k: tensor([2, 4, 7, 16]) }, 'INVALID_SHAPE', 'k'],
    ['another head_dim of q', { q: tensor([2, 4, 5, 32]) }, 'INVALID_SHAPE', 'q'],
    ['another head_dim of k', { k: tensor([2, 2, 7, 32]) }, 'INVALID_SHAPE', 'k'],
    ['another head_dim of v', { v: tensor([2, 2, 7, 32]) }, 'INVALID_SHAPE', 'v'],
    ['another batch of k', { k: tensor([1, 2, 7, 16]) }, 'INVALID_SHAPE', 'k'],
    ['another length of v', { v: tensor([2, 2, 8, 16]) }, 'INVALID_SHAPE', 'v'],
    ['another shape of out', { out: tensor([2, 4, 7, 16]) }, 'INVALID_SHAPE', 'out'],
    ['out of 3 axes', { out: tensor([2, 4, 80]) }, 'INVALID_SHAPE', 'out'],
    ['another shape of lse', { lse: tensor([2, 4, 5, 1]) }, 'INVALID_SHAPE', 'lse'],
    ['f16 q for f32', { q: tensor([2, 4, 5, 16], 'f16') }, 'INVALID_DTYPE', 'q'],
    ['f16 v for f32', { v: tensor([2, 2, 7, 16], 'f16') }, 'INVALID_DTYPE', 'v'],
    ['f16 out for f32', { out: tensor([2, 4, 5, 16], 'f16') }, 'INVALID_DTYPE', 'out'],
    ['f16 lse', { lse: tensor([2, 4, 5], 'f16') }, 'INVALID_DTYPE', 'lse'],
    ['an unknown dtype', { k: tensor([2, 2, 7, 16], 'u8' as never) }, 'INVALID_DTYPE', 'k'],
    [
      'a short buffer',
      { k: tensor([2, 2, 7, 16], 'f32', { buffer: { size: 1791, usage: 0x80 } as GPUBuffer }) },
      'BUFFER_TOO_SMALL',
      'k',
    ],
    [
      'a short lse',
      { lse: tensor([2, 4, 5], 'f32', { buffer: { size: 159, usage: 0x80 } as GPUBuffer }) },
      'BUFFER_TOO_SMALL',
      'lse',
    ],
    ['a scattered last axis', { q: permute(tensor([2, 4, 16, 5]), [0, 1, 3, 2]) }, 'INVALID_VIEW', 'q'],
    ['rows at 4 bytes', { q: tensor([2, 4, 5, 16], 'f32', { strides: [4 * 85, 85, 17, 1] }) }, 'INVALID_VIEW', 'q'],
    ['an offset of 4 bytes', { v: tensor([2, 2, 7, 16], 'f32', { offset: 1 }) }, 'INVALID_VIEW', 'v'],
    ['a strided lse', { lse: tensor([2, 4, 5], 'f32', { strides: [40, 10, 2] }) }, 'INVALID_VIEW', 'lse'],
    ['lse at an offset that cannot be bound', { lse: tensor([2, 4, 5], 'f32', { offset: 4 }) }, 'INVALID_VIEW', 'lse'],
    ['a buffer without STORAGE', { k: tensor([2, 2, 7, 16], 'f32', { usage: 0x0c }) }, 'INVALID_ARGUMENT', 'k'],
    ['an lse without STORAGE', { lse: tensor([2, 4, 5], 'f32', { usage: 0x0c }) }, 'INVALID_ARGUMENT', 'lse'],
    ['no v', { v: undefined as never }, 'INVALID_ARGUMENT', 'v'],
    [
      'out whose batch entries overlap',
      { out: tensor([2, 4, 5, 16], 'f32', { strides: [0, 80, 16, 1] }) },
      'INVALID_VIEW',
      'out',
    ],
    [
      'out whose rows overlap',
      { out: tensor([2, 4, 5, 16], 'f32', { strides: [320, 80, 8, 1] }) },
      'INVALID_VIEW',
      'out',
    ],
    [
      'out whose heads interleave with rows',
      { out: tensor([2, 4, 5, 16], 'f32', { strides: [320, 32, 16, 1] }) },
      'INVALID_VIEW',
      'out',
    ],
  ])('%s: %s', (_, wrong, code, where) => {
    expect(() => validate(wrong)).toThrow(refusal(code, where))
  })

  test('f16 views are aligned to 8 elements', () => {
    const half = { ...config, dtype: 'f16' } as const
    const check = (offset: number) =>
      validateTensors(
        'example',
        capabilities,
        half,
        {
          q: tensor([2, 4, 5, 16], 'f16', { offset }),
          k: tensor([2, 2, 7, 16], 'f16'),
          v: tensor([2, 2, 7, 16], 'f16'),
        },
        limits,
      )
    check(8)
    expect(() => check(4)).toThrow(refusal('INVALID_VIEW', 'q'))
  })

  test('an output may not share a buffer with an input or with the other output', () => {
    const q = tensor([2, 4, 5, 16])
    const big = tensor([2, 4, 5, 16])
    expect(() => validate({ q, out: { ...q } })).toThrow(refusal('INVALID_ARGUMENT', 'out'))
    expect(() => validate({ q, lse: tensor([2, 4, 5], 'f32', { buffer: q.buffer }) })).toThrow(
      refusal('INVALID_ARGUMENT', 'lse'),
    )
    expect(() => validate({ out: big, lse: tensor([2, 4, 5], 'f32', { buffer: big.buffer }) })).toThrow(
      refusal('INVALID_ARGUMENT', 'lse'),
    )
  })

  test('inputs may share a buffer, and keys may be broadcast', () => {
    const kv = tensor([2, 2, 7, 16])
    validate({ k: kv, v: kv })
    validate({ k: tensor([2, 2, 7, 16], 'f32', { strides: [0, 112, 16, 1] }) })
  })

  test('a span above the binding limit is LIMIT_EXCEEDED', () => {
    const small = { maxStorageBufferBindingSize: 2 * 4 * 5 * 16 * 4 } as GPUSupportedLimits
    expect(() => validate({}, { limits: small })).toThrow(refusal('LIMIT_EXCEEDED', 'q'))
  })

  test('a batch above what one dispatch takes is LIMIT_EXCEEDED', () => {
    const one = { ...config, queryHeads: 1, kvHeads: 1 }
    const shape = [65536, 1, 1, 16]
    const huge = { maxStorageBufferBindingSize: 2 ** 40 } as GPUSupportedLimits
    const call = { q: tensor(shape), k: tensor(shape), v: tensor(shape) }
    expect(() => validateTensors('example', capabilities, one, call, huge)).toThrow(refusal('LIMIT_EXCEEDED', 'q'))
  })

  test('a method for one query refuses more, one for many refuses one', () => {
    expect(() => validate({}, { capabilities: { ...capabilities, queryLength: 'one' } })).toThrow(
      refusal('UNSUPPORTED', 'q'),
    )
    const single = { q: tensor([2, 4, 1, 16]) }
    validate(single, { capabilities: { ...capabilities, queryLength: 'one' } })
    expect(() => validate(single, { capabilities: { ...capabilities, queryLength: 'many' } })).toThrow(
      refusal('UNSUPPORTED', 'q'),
    )
    validate({}, { capabilities: { ...capabilities, queryLength: 'many' } })
  })
})

describe('tokens', () => {
  const check = (more: Partial<Capabilities>, grid?: readonly number[]) =>
    validateTensors(
      'example',
      { ...capabilities, ...more },
      config,
      { ...tensors(), ...(grid && { context: { grid } }) },
      limits,
    )

  test('of one sequence, where a method takes self-attention only', () => {
    expect(() => check({ selfAttention: true })).toThrow(refusal('UNSUPPORTED', 'k'))
    expect(() =>
      validateTensors(
        'example',
        { ...capabilities, selfAttention: true },
        config,
        tensors({ q: tensor([2, 4, 7, 16]) }),
        limits,
      ),
    ).not.toThrow()
  })

  test('lie on a grid that fits them, where a method takes one', () => {
    for (const grid of [undefined, [100], [7], [0, 3], [9, 9]]) expect(() => check({}, grid)).not.toThrow()
    expect(() => check({ grid: 'required' })).toThrow(refusal('INVALID_ARGUMENT', 'context.grid'))
    expect(() => check({ grid: 'optional' })).not.toThrow()
    for (const given of ['required', 'optional'] as const) {
      for (const grid of [
        [2, 3],
        [7, 1],
        [1, 2, 3],
      ])
        expect(() => check({ grid: given }, grid)).not.toThrow()
      for (const grid of [[7], [1, 1, 1, 1], [2.5, 2], [0, 3], [-1, -3], [], [Number.NaN, 2]]) {
        expect(() => check({ grid: given }, grid)).toThrow(refusal('INVALID_ARGUMENT', 'context.grid'))
      }
      expect(() => check({ grid: given }, [2, 4])).toThrow(refusal('INVALID_SHAPE', 'context.grid'))
      expect(() => check({ grid: given, gridAxes: [3] }, [2, 3])).toThrow(refusal('INVALID_ARGUMENT', 'context.grid'))
    }
  })
})
