import { describe, expect, test } from 'vitest'
import {
  contiguousStrides,
  elementCount,
  lastElement,
  permute,
  type Tensor,
  tensorView,
  validateTensor,
} from './tensor.js'

/** Views need a buffer's size and nothing else of it. */
const buffer = (size: number) => ({ size }) as GPUBuffer

test('contiguous strides put the last axis fastest', () => {
  expect(contiguousStrides([2, 3, 4])).toEqual([12, 4, 1])
  expect(contiguousStrides([5])).toEqual([1])
  expect(elementCount([2, 3, 4])).toBe(24)
})

describe('a view', () => {
  test('is contiguous from the start by default', () => {
    const memory = buffer(2 * 3 * 4)
    expect(tensorView(memory, 'f32', [2, 3])).toEqual({
      buffer: memory,
      dtype: 'f32',
      shape: [2, 3],
      strides: [3, 1],
      offset: 0,
    })
  })

  test('keeps its own copy of shape and strides', () => {
    const [shape, strides] = [
      [2, 3],
      [3, 1],
    ]
    const view = tensorView(buffer(24), 'f32', shape, { strides })
    shape[0] = 100
    strides[0] = 100
    expect(view).toMatchObject({ shape: [2, 3], strides: [3, 1] })
  })

  test('may end at the last byte of the buffer, in either dtype, strided and offset', () => {
    const view = tensorView(buffer(4 * 100), 'f32', [3, 4], { strides: [40, 1], offset: 16 })
    expect(lastElement(view)).toBe(99)
    tensorView(buffer(2 * 100), 'f16', [3, 4], { strides: [40, 1], offset: 16 })
  })

  test('one element further is BUFFER_TOO_SMALL, and the error gives both sizes', () => {
    expect(() => tensorView(buffer(4 * 100), 'f32', [3, 4], { strides: [40, 1], offset: 17 })).toThrow(
      expect.objectContaining({ code: 'BUFFER_TOO_SMALL', message: expect.stringMatching(/404 bytes.* 400\./) }),
    )
    expect(() => tensorView(buffer(2 ** 30), 'f16', [2 ** 40, 2 ** 40])).toThrow(
      expect.objectContaining({ code: 'BUFFER_TOO_SMALL' }),
    )
  })

  test.each([[[]], [[0]], [[2, 0]], [[-1, 4]], [[1.5]], [[Number.NaN]], [[Number.POSITIVE_INFINITY]], [[2 ** 60]]])(
    'of shape %j is INVALID_SHAPE',
    (shape) => {
      expect(() => tensorView(buffer(1024), 'f32', shape)).toThrow(expect.objectContaining({ code: 'INVALID_SHAPE' }))
    },
  )

  test.each([
    { strides: [1] },
    { strides: [4, 1, 1] },
    { strides: [-4, 1] },
    { strides: [0.5, 1] },
    { strides: [Number.NaN, 1] },
    { offset: -4 },
    { offset: 0.5 },
    { offset: Number.NaN },
  ])('with %j is INVALID_SHAPE', (options) => {
    expect(() => tensorView(buffer(1024), 'f32', [2, 4], options)).toThrow(
      expect.objectContaining({ code: 'INVALID_SHAPE', where: 'tensor' }),
    )
  })

  test('of an unknown dtype is INVALID_DTYPE', () => {
    for (const dtype of ['f64', 'toString', undefined]) {
      expect(() => tensorView(buffer(1024), dtype as never, [2])).toThrow(
        expect.objectContaining({ code: 'INVALID_DTYPE' }),
      )
    }
  })

  test('a malformed tensor is called by its name', () => {
    const tensor: Tensor = { buffer: buffer(4), dtype: 'f32', shape: [2], strides: [1], offset: 0 }
    expect(() => validateTensor(tensor, 'key')).toThrow(
      expect.objectContaining({ where: 'key', message: expect.stringMatching(/^key /) }),
    )
  })
})

describe('permute', () => {
  const view = tensorView(buffer(4 * 2 * 3 * 5 * 7), 'f32', [2, 3, 5, 7])

  test('reorders shape and strides, and nothing else', () => {
    expect(permute(view, [0, 2, 1, 3])).toEqual({ ...view, shape: [2, 5, 3, 7], strides: [105, 7, 35, 1] })
  })

  test.each([[[0, 1, 2]], [[0, 1, 2, 2]], [[0, 1, 2, 4]], [[0, 1, 2, 3, 4]], [[0, 1, 2, -1]], [[0, 1, 2, 2.5]], [[]]])(
    'by %j is INVALID_ARGUMENT',
    (axes) => {
      expect(() => permute(view, axes)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT', where: 'axes' }))
    },
  )
})
