import { Tensor } from 'onnxruntime-web'
import { describe, expect, test } from 'vitest'
import type { FoundAttention, MaskPart } from './attention-node.js'
import { maskVisibility } from './mask-check.js'

// What masks show, pair by pair, against what the check says of them.

const node = { name: 'attention' } as FoundAttention['node']
const int64 = (dims: number[], values: number[]) => new Tensor('int64', BigInt64Array.from(values, BigInt), dims)
const bool = (dims: number[], values: readonly (boolean | number)[]) =>
  new Tensor('bool', Uint8Array.from(values, Number), dims)
const floats = (dims: number[], values: number[]) => new Tensor('float32', Float32Array.from(values), dims)
const range = (start: number, count: number) => Array.from({ length: count }, (_, i) => start + i)

function visibility(
  parts: readonly MaskPart[],
  values: Record<string, Tensor>,
  queryLength: number,
  keyLength: number,
) {
  const found = { node, mask: parts } as unknown as FoundAttention
  return maskVisibility(found, (value) => values[value]!, { queryLength, keyLength })
}

const compare = (
  op: 'LessOrEqual' | 'Less' | 'Greater' | 'GreaterOrEqual' | 'Equal',
  left = 'keys',
  right = 'queries',
): MaskPart => ({
  kind: 'compare',
  op,
  left,
  right,
})
const keys = (start: number, count: number) => int64([1, 1, 1, count], range(start, count))
const queries = (start: number, count: number) => int64([1, 1, count, 1], range(start, count))
const refused = (part: string) =>
  expect.objectContaining({ code: 'UNSUPPORTED', message: expect.stringContaining(part) })

describe('positions compared with positions', () => {
  test.each<[string, MaskPart, Tensor, Tensor, number, number, string]>([
    ['key ≤ query', compare('LessOrEqual'), keys(0, 5), queries(0, 5), 5, 5, 'causal'],
    ['query ≥ key', compare('GreaterOrEqual', 'queries', 'keys'), keys(0, 5), queries(0, 5), 5, 5, 'causal'],
    ['key < query + 1', compare('Less'), keys(0, 5), queries(1, 5), 5, 5, 'causal'],
    ['after a past of 3', compare('LessOrEqual'), keys(0, 5), queries(3, 2), 2, 5, 'causal'],
    ['one query, the last', compare('LessOrEqual'), keys(0, 5), queries(4, 1), 1, 5, 'either'],
    ['queries that see everything', compare('LessOrEqual'), keys(0, 3), queries(9, 2), 2, 3, 'all'],
  ])('%s', (_, part, k, q, queryLength, keyLength, expected) => {
    expect(visibility([part], { keys: k, queries: q }, queryLength, keyLength)).toBe(expected)
  })

  test.each<[string, MaskPart, Tensor, Tensor, number, number, string]>([
    ['counted from the first key', compare('LessOrEqual'), keys(0, 5), queries(0, 2), 2, 5, 'hides pairs'],
    ['key < query: not itself', compare('Less'), keys(0, 4), queries(0, 4), 4, 4, 'hides pairs'],
    ['keys of the future', compare('Greater'), keys(0, 4), queries(0, 4), 4, 4, 'hides pairs'],
    ['the own key only', compare('Equal'), keys(0, 4), queries(0, 4), 4, 4, 'hides pairs'],
    ['keys out of order', compare('LessOrEqual'), int64([4], [0, 2, 1, 3]), queries(0, 4), 4, 4, 'hides pairs'],
    ['one query, not the last', compare('LessOrEqual'), keys(0, 5), queries(2, 1), 1, 5, 'hides key 3'],
    ['queries before the first key', compare('LessOrEqual'), keys(2, 3), queries(0, 5), 5, 3, 'without any key'],
    ['for other lengths', compare('LessOrEqual'), keys(0, 6), queries(0, 4), 4, 4, '4 queries and 6 keys'],
  ])('%s: refused', (_, part, k, q, queryLength, keyLength, reason) => {
    expect(() => visibility([part], { keys: k, queries: q }, queryLength, keyLength)).toThrow(refused(reason))
  })

  test('equal for all, per sequence of a batch', () => {
    const one = { keys: int64([2, 1, 1, 3], [1, 1, 1, 2, 2, 2]), queries: int64([2, 1, 2, 1], [1, 1, 2, 2]) }
    expect(visibility([compare('Equal')], one, 2, 3)).toBe('all')
    const other = { ...one, keys: int64([2, 1, 1, 3], [1, 1, 1, 2, 3, 3]) }
    expect(() => visibility([compare('Equal')], other, 2, 3)).toThrow(refused('hides pairs'))
  })

  test('one sequence of a batch that differs is refused', () => {
    const parts = [compare('LessOrEqual')]
    const same = int64([2, 1, 3, 1], [0, 1, 2, 0, 1, 2])
    expect(visibility(parts, { keys: keys(0, 3), queries: same }, 3, 3)).toBe('causal')
    const shifted = int64([2, 1, 3, 1], [0, 1, 2, 1, 2, 3])
    expect(() => visibility(parts, { keys: keys(0, 3), queries: shifted }, 3, 3)).toThrow(refused('hides pairs'))
  })
})

describe('masks as they are', () => {
  const triangle = [1, 0, 0, 1, 1, 0, 1, 1, 1]
  const part = (negated: boolean): MaskPart => ({ kind: 'boolean', value: 'mask', negated })
  const additive: MaskPart = { kind: 'additive', value: 'mask' }
  const low = Number.NEGATIVE_INFINITY

  test.each<[string, MaskPart, Tensor, string]>([
    ['a triangle', part(false), bool([1, 1, 3, 3], triangle), 'causal'],
    [
      'a triangle of what is hidden',
      part(true),
      bool(
        [3, 3],
        triangle.map((x) => 1 - x),
      ),
      'causal',
    ],
    ['ones', part(false), bool([2, 1, 1, 3], new Array(6).fill(1)), 'all'],
    ['one for all', part(false), bool([], [1]), 'all'],
    ['zeros to add', additive, floats([1, 3], [0, 0, 0]), 'all'],
    [
      'a triangle to add',
      additive,
      floats(
        [3, 3],
        triangle.map((x) => (x ? 0 : low)),
      ),
      'causal',
    ],
    [
      'a triangle of −10000',
      additive,
      floats(
        [3, 3],
        triangle.map((x) => (x ? 0 : -1e4)),
      ),
      'causal',
    ],
  ])('%s', (_, mask, tensor, expected) => {
    expect(visibility([mask], { mask: tensor }, 3, 3)).toBe(expected)
  })

  test.each<[string, MaskPart, Tensor, string]>([
    ['padding', part(false), bool([2, 1, 1, 3], [1, 1, 1, 1, 1, 0]), 'hides key 2 from every query'],
    ['padding to add', additive, floats([1, 1, 1, 3], [low, 0, 0]), 'hides key 0 from every query'],
    ['a bias', additive, floats([1, 3], [0, -2, 0]), 'adds other numbers'],
    ['NaN', additive, floats([1, 3], [0, Number.NaN, 0]), 'adds other numbers'],
    ['a window', part(false), bool([3, 3], [1, 0, 0, 1, 1, 0, 0, 1, 1]), 'hides pairs'],
    ['another length', part(false), bool([1, 4], [1, 1, 1, 1]), 'is for 1 queries and 4 keys'],
    ['numbers where booleans should be', part(false), floats([1, 3], [0, 0, 0]), 'is float32'],
    ['booleans where numbers should be', additive, bool([1, 3], [1, 1, 1]), 'is bool'],
  ])('%s: refused, naming the node', (_, mask, tensor, reason) => {
    expect(() => visibility([mask], { mask: tensor }, 3, 3)).toThrow(refused(reason))
    expect(() => visibility([mask], { mask: tensor }, 3, 3)).toThrow(expect.objectContaining({ where: 'attention' }))
  })

  test('together: causal where one is, all where none is', () => {
    const values = { mask: bool([1, 3], [1, 1, 1]), keys: keys(0, 3), queries: queries(0, 3) }
    expect(visibility([part(false), compare('LessOrEqual')], values, 3, 3)).toBe('causal')
    expect(visibility([part(false), part(false)], values, 3, 3)).toBe('all')
  })
})
