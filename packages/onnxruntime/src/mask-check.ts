import { halvesToFloats, SparseAttentionError } from '@sparse-attention/core'
import type { Tensor } from 'onnxruntime-web'
import type { Comparison, FoundAttention, MaskPart } from './attention-node.js'
import { HIDDEN } from './forms/mask.js'

/** Which pairs a mask shows: all of them, those of causal attention, or both where these are the same. */
export type Visibility = 'all' | 'causal' | 'either'

export interface MaskedShape {
  readonly queryLength: number
  readonly keyLength: number
}

/** Values of a mask's parts in one run. */
export type MaskValues = (value: string) => Tensor

/**
 * What a mask shows in one call. A comparison of positions with positions takes one step a token, not one a pair.
 *
 * @throws UNSUPPORTED for padding, and whatever else is neither causal nor nothing; naming the node and what to do
 */
export function maskVisibility(found: FoundAttention, values: MaskValues, shape: MaskedShape): Visibility {
  let seen: Visibility = shape.queryLength === 1 ? 'either' : 'all'
  for (const part of found.mask) {
    const shows = partShows(part, values, shape)
    if (typeof shows === 'object') throw refusal(found, part, shows.reason)
    // Of such rows onnxruntime makes an average of all values, NaN or 0, by how the mask is written.
    const empty = shows === 'causal' && shape.queryLength > shape.keyLength
    if (empty) throw refusal(found, part, 'leaves the first queries without any key')
    if (shows === 'causal' && seen === 'all') seen = 'causal'
  }
  return seen
}

type Shown = 'all' | 'causal' | { readonly reason: string }

function partShows(part: MaskPart, values: MaskValues, shape: MaskedShape): Shown {
  if (part.kind === 'compare')
    return comparisonShows(part.op, matrix(values(part.left)), matrix(values(part.right)), shape)
  const tensor = values(part.value)
  const booleans = tensor.type === 'bool'
  if (booleans !== (part.kind === 'boolean')) return { reason: `is ${tensor.type}` }
  const hides = (number: number) => {
    if (part.kind === 'boolean') return (number !== 0) === part.negated
    return number === 0 ? false : number <= HIDDEN ? true : undefined
  }
  const mask = matrix(tensor)
  return wrongSizes(mask, shape) ?? matrixShows(mask, (i, j, m) => hides(mask.at(m, i, j)), shape)
}

/** The last two axes of a tensor, the others as one; numbers of any type. */
interface Matrix {
  readonly matrices: number
  /** 1 where all queries, or keys, share what is there. */
  readonly queries: number
  readonly keys: number
  at(matrix: number, query: number, key: number): number
}

function matrix(tensor: Tensor): Matrix {
  const { dims } = tensor
  const numbers =
    tensor.type === 'float16'
      ? halvesToFloats(Uint16Array.from(tensor.data as ArrayLike<number>))
      : (tensor.data as unknown as ArrayLike<number | bigint>)
  const [keys, queries] = [dims.at(-1) ?? 1, dims.at(-2) ?? 1]
  const matrices = dims.slice(0, -2).reduce((product, size) => product * size, 1)
  const at = (m: number, i: number, j: number) => {
    const [matrix, query, key] = [matrices === 1 ? 0 : m, queries === 1 ? 0 : i, keys === 1 ? 0 : j]
    return Number(numbers[(matrix * queries + query) * keys + key])
  }
  return { matrices, queries, keys, at }
}

function wrongSizes({ queries, keys }: Matrix, shape: MaskedShape): Shown | undefined {
  const fits = (size: number, length: number) => size === 1 || size === length
  if (fits(queries, shape.queryLength) && fits(keys, shape.keyLength)) return undefined
  return {
    reason: `is for ${queries} queries and ${keys} keys, where there are ${shape.queryLength} and ${shape.keyLength}`,
  }
}

/** The last key that a query of causal attention sees. */
function lastKey(query: number, { queryLength, keyLength }: MaskedShape): number {
  return query + keyLength - queryLength
}

/** @param hides undefined: neither hidden nor shown */
function matrixShows(
  { matrices, queries, keys }: Matrix,
  hides: (query: number, key: number, matrix: number) => boolean | undefined,
  shape: MaskedShape,
): Shown {
  let all = true
  let causal = queries === shape.queryLength && keys === shape.keyLength
  let hiddenKey: number | undefined
  for (let m = 0; m < matrices; m++) {
    for (let i = 0; i < queries; i++) {
      for (let j = 0; j < keys; j++) {
        const hidden = hides(i, j, m)
        if (hidden === undefined) return { reason: 'adds other numbers to the scores than 0 and −∞' }
        if (hidden) all = false
        if (hidden && queries === 1) hiddenKey ??= j
        if (hidden !== j > lastKey(i, shape)) causal = false
        if (!all && !causal) return { reason: hiddenReason(hiddenKey) }
      }
    }
  }
  return all ? 'all' : 'causal'
}

function hiddenReason(key: number | undefined): string {
  return key === undefined
    ? 'hides pairs that causal attention shows, or the other way round'
    : `hides key ${key} from every query`
}

const tests: Readonly<Record<Comparison, (a: number, b: number) => boolean>> = {
  Equal: (a, b) => a === b,
  Less: (a, b) => a < b,
  LessOrEqual: (a, b) => a <= b,
  Greater: (a, b) => a > b,
  GreaterOrEqual: (a, b) => a >= b,
}

const flipped: Readonly<Record<Comparison, Comparison>> = {
  Equal: 'Equal',
  Less: 'Greater',
  LessOrEqual: 'GreaterOrEqual',
  Greater: 'Less',
  GreaterOrEqual: 'LessOrEqual',
}

function comparisonShows(op: Comparison, left: Matrix, right: Matrix, shape: MaskedShape): Shown {
  const sizes: Matrix = {
    matrices: Math.max(left.matrices, right.matrices),
    queries: Math.max(left.queries, right.queries),
    keys: Math.max(left.keys, right.keys),
    at: () => 0,
  }
  const wrong = wrongSizes(sizes, shape)
  if (wrong) return wrong
  if (left.queries === 1 && right.keys === 1) return positionsShow(op, left, right, sizes, shape)
  if (right.queries === 1 && left.keys === 1) return positionsShow(flipped[op], right, left, sizes, shape)
  const test = tests[op]
  return matrixShows(sizes, (i, j, m) => !test(left.at(m, i, j), right.at(m, i, j)), shape)
}

/** `key op query` for a number a key and a number a query. */
function positionsShow(op: Comparison, keys: Matrix, queries: Matrix, sizes: Matrix, shape: MaskedShape): Shown {
  const test = tests[op]
  let all = true
  // Equal positions are no step, whatever they are.
  let causal = op !== 'Equal' && sizes.queries === shape.queryLength && sizes.keys === shape.keyLength
  for (let m = 0; m < sizes.matrices; m++) {
    const key = (j: number) => keys.at(m, 0, j)
    const query = (i: number) => queries.at(m, i, 0)
    const [firstKeys, firstQueries] = [range(sizes.keys, key), range(sizes.queries, query)]
    // Every comparison is monotone in both, so the extremes decide.
    all &&= firstKeys.every((a) => firstQueries.every((b) => test(a, b)))
    causal &&= stepsAreCausal(test, key, query, sizes, shape)
    if (!all && !causal)
      return { reason: hiddenReason(sizes.queries === 1 ? firstHidden(test, key, query(0), sizes.keys) : undefined) }
  }
  return all ? 'all' : 'causal'
}

function firstHidden(
  test: (a: number, b: number) => boolean,
  key: (j: number) => number,
  query: number,
  keys: number,
): number {
  let j = 0
  while (j < keys - 1 && test(key(j), query)) j++
  return j
}

/** Least and greatest of some numbers. */
function range(count: number, number: (index: number) => number): [number, number] {
  let [least, greatest] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]
  for (let index = 0; index < count; index++) {
    least = Math.min(least, number(index))
    greatest = Math.max(greatest, number(index))
  }
  return [least, greatest]
}

/** Each query sees keys up to its last and no further: enough to look at these two, where keys are in order. */
function stepsAreCausal(
  test: (a: number, b: number) => boolean,
  key: (j: number) => number,
  query: (i: number) => number,
  { queries, keys }: Matrix,
  shape: MaskedShape,
): boolean {
  const rises = test(0, 1)
  for (let j = 1; j < keys; j++) if (rises ? key(j) < key(j - 1) : key(j) > key(j - 1)) return false
  for (let i = 0; i < queries; i++) {
    const last = lastKey(i, shape)
    if (last >= 0 && !test(key(Math.min(last, keys - 1)), query(i))) return false
    if (last + 1 < keys && test(key(Math.max(last + 1, 0)), query(i))) return false
  }
  return true
}

function refusal({ node }: FoundAttention, part: MaskPart, reason: string): SparseAttentionError {
  const value = part.kind === 'compare' ? part.left : part.value
  return new SparseAttentionError('UNSUPPORTED', {
    message: `The mask of node ${node.name} is neither causal nor shows everything: '${value}' ${reason}.`,
    fix:
      'Run sequences of different length one by one, without padding and with ones in the attention mask, or return ' +
      "'keep' for this node.",
    where: node.name,
  })
}
