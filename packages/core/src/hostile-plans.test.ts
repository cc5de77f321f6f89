import { expect, test } from 'vitest'
import { SparseAttentionError } from './errors.js'
import type { HostPlan } from './host-plan.js'
import { uploadPlan } from './plan-view.js'
import type { Runtime } from './runtime.js'

/*
 * Plans are saved, and sent from machine to machine: whatever stands in one is refused with a typed error before a buffer is made, or is
 * another valid plan.
 */

const shape = { batch: 1, queryHeads: 2, kvHeads: 1, queryLength: 130, keyLength: 200, headDim: 32 }
const common = { batch: 1, queryHeads: 2, queryLength: 130, keyLength: 200, causal: false }
const order = (length: number) => Int32Array.from({ length }, (_, i) => i)
const clusters = {
  ...{ ...common, kind: 'variable-block' as const, queryBlocks: 2, keyBlocks: 3, keyHeads: 1 },
  bitmap: new Uint32Array(4),
  queryStarts: Int32Array.of(0, 100, 130, 0, 0, 130),
  keyStarts: Int32Array.of(0, 10, 150, 200),
}
const plans: readonly HostPlan[] = [
  { ...common, kind: 'block', blockQ: 64, blockK: 64, bitmap: new Uint32Array(6) },
  {
    ...{ ...common, kind: 'stripe' as const, heads: 2, blockQ: 64, lists: [{ width: 1, capacity: 3 }] },
    ...{ counts: new Int32Array(6), indices: new Int32Array(18) },
  },
  clusters,
  { ...clusters, permutation: { keyHeads: 1, queries: order(260), keys: order(200) } },
]

/** A device that must not be asked, and one that is. */
const made = new Error('a buffer is made')
const limits = { maxStorageBufferBindingSize: 2 ** 27, maxBufferSize: 2 ** 28 }
const device = {
  limits,
  pushErrorScope() {},
  popErrorScope: async () => null,
  createBuffer() {
    throw made
  },
}
const runtime = { assertUsable() {}, device } as unknown as Runtime

const hostile: readonly unknown[] = [
  ...[
    undefined,
    null,
    true,
    '',
    '64',
    'block',
    -1,
    0,
    0.5,
    1e9 + 1,
    2 ** 53,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    64n,
  ],
  ...[Symbol('64'), {}, [], [1, 2, 3, 4, 5, 6], [null], { length: 6 }, { width: 1, capacity: 4 }, () => 64],
  ...[new Uint8Array(6), new Float64Array(6), new BigInt64Array(6), new Uint32Array(0), new ArrayBuffer(24)],
  ...[Object.create(null), { length: 4, toString: () => '64', valueOf: () => 64 }],
]

/** Ends as an error of ours, or makes buffers; memory is not taken on the word of a plan. */
function outcome(plan: unknown): 'refused' | 'made' {
  try {
    uploadPlan(runtime, plan as HostPlan, shape)
  } catch (error) {
    if (!SparseAttentionError.is(error)) throw error
    if (error.cause === made) return 'made'
    return 'refused'
  }
  throw new Error('nothing was made')
}

/** A copy with one value in place of another, at each place. */
function* changed(value: object): Generator<[path: string, copy: object]> {
  for (const [name, inner] of Object.entries(value)) {
    for (const other of hostile) if (!Object.is(other, inner)) yield [name, { ...value, [name]: other }]
    if (typeof inner !== 'object' || ArrayBuffer.isView(inner)) continue
    for (const [path, copy] of changed(inner)) {
      const whole = Array.isArray(inner) ? Object.values(copy) : copy
      yield [`${name}.${path}`, { ...value, [name]: whole }]
    }
  }
}

test('a plan as it is is uploaded', () => {
  for (const plan of plans) expect(outcome(plan)).toBe('made')
})

test('a plan with any of its values replaced is refused', () => {
  let cases = 0
  for (const plan of plans) {
    for (const [path, copy] of changed(plan)) {
      cases++
      // Valid too: true where no order of tokens forbids it, and stripes of any width.
      const { causal, lists } = copy as { causal: unknown; lists?: readonly { width: unknown }[] }
      const wide = path === 'lists.0.width' && lists![0]!.width === 1e9 + 1
      const valid = wide || (path === 'causal' && causal === true && !('permutation' in copy))
      expect(outcome(copy), `${plan.kind} ${path}`).toBe(valid ? 'made' : 'refused')
    }
  }
  expect(cases).toBeGreaterThan(1000)
})

test('what is no plan is refused', () => {
  for (const value of hostile) expect(outcome(value), typeof value).toBe('refused')
})
