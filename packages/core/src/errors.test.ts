import { expect, test } from 'vitest'
import { SparseAttentionError } from './errors.js'

test('an error says what and what to do, and carries its code', () => {
  const cause = new Error('below')
  const error = new SparseAttentionError('INVALID_SHAPE', { message: 'q is flat.', fix: 'Fold it.', where: 'q', cause })
  expect(error).toBeInstanceOf(Error)
  expect(error).toMatchObject({
    name: 'SparseAttentionError',
    code: 'INVALID_SHAPE',
    fix: 'Fold it.',
    where: 'q',
    cause,
  })
  expect(error.message).toBe('q is flat. Fold it.')
})

test('without a cause there is none, not even undefined', () => {
  const error = new SparseAttentionError('BUSY', { message: 'a.', fix: 'b.' })
  expect('cause' in error).toBe(false)
  expect(error.where).toBeUndefined()
})

test('errors are known by a marker that two copies of the package share', () => {
  const fromOtherCopy = Object.assign(new Error('x'), { [Symbol.for('sparse-attention.error')]: true })
  expect(SparseAttentionError.is(new SparseAttentionError('BUSY', { message: '', fix: '' }))).toBe(true)
  expect(SparseAttentionError.is(fromOtherCopy)).toBe(true)
  for (const other of [new Error('x'), { code: 'BUSY' }, undefined, null, 'BUSY']) {
    expect(SparseAttentionError.is(other)).toBe(false)
  }
})
