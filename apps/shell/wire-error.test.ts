import { SparseAttentionError } from '@sparse-attention/core'
import { expect, it, vi } from 'vitest'
import { toWire } from './wire-error.js'

it.each([
  new RangeError('Array buffer allocation failed'),
  new RangeError('Invalid typed array length: 68719476736'),
  new RangeError('WebAssembly.Memory(): could not allocate memory'),
  new Error('failed to call OrtRun(). ERROR_CODE: 6, ERROR_MESSAGE: std::bad_alloc'),
  new Error('Failed to allocate memory for requested buffer of size 268435456'),
  Object.assign(new Error('out of memory'), { name: 'InternalError' }),
])('tells %s as memory that ran out, and what to do', (error) => {
  const { code, message } = toWire(error)
  expect(code).toBe('OUT_OF_MEMORY')
  expect(message).toContain(error.message)
  expect(message).toContain('Choose smaller sizes')
})

it('keeps code and message of a typed error', () => {
  const error = new SparseAttentionError('DEVICE_LOST', { message: 'It is gone.', fix: 'Start again.' })
  expect(toWire(error)).toEqual({
    name: 'SparseAttentionError',
    code: 'DEVICE_LOST',
    message: 'It is gone. Start again.',
  })
})

it('calls the rest unexpected, on the console too', () => {
  const logged = vi.spyOn(console, 'error').mockImplementation(() => {})
  expect(toWire(new TypeError('x is not a function'))).toMatchObject({ name: 'TypeError', code: 'UNEXPECTED' })
  expect(toWire('text')).toEqual({ name: 'Error', code: 'UNEXPECTED', message: 'text' })
  expect(logged).toHaveBeenCalledTimes(2)
  logged.mockRestore()
})
