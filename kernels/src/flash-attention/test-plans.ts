import {
  type AttentionShape,
  blockGrid,
  type ConfiguredMethod,
  type DType,
  type HostBlockPlan,
  type HostPlan,
  type HostStripePlan,
  type HostVariableBlockPlan,
  type Runtime,
  uploadPlan,
} from '@sparse-attention/core'
import {
  createRandom,
  expectAttentionClose,
  type InputKind,
  type Layout,
  makeInputs,
  type Random,
  scaleFor,
  uploadTensor,
} from '@sparse-attention/testing'
import { expect } from 'vitest'
import { dense } from '../dense/method.js'
import type { WalkedPlan } from './walk.js'

/** A call in a test; the rest of it is in `shapeOf`. */
export interface TestCall {
  readonly dtype: DType
  readonly causal: boolean
  readonly queryLength: number
  readonly keyLength: number
  readonly headDim: number
  readonly batch?: number
  readonly queryHeads?: number
  readonly scale?: number
  readonly inputs?: InputKind
  readonly layout?: Layout
}

export const shapeOf = (c: TestCall): AttentionShape => ({ batch: 2, queryHeads: 4, kvHeads: 2, ...c })

/** Attends over an uploaded plan, or without one, and compares with float64 under the plan's own mask. */
export async function checkPlan(
  runtime: Runtime,
  c: TestCall,
  host: HostPlan | undefined,
  method: ConfiguredMethod = dense({ plan: (host?.kind ?? 'block') as WalkedPlan }),
  /** The plan may keep everything, or nothing. */
  { trivial = false }: { readonly trivial?: boolean } = {},
): Promise<void> {
  const shape = shapeOf(c)
  const { batch, queryHeads, kvHeads, queryLength, keyLength, headDim } = shape
  const { inputs: kind = 'gaussian', layout = 'BHLD' } = c
  const inputs = makeInputs(kind, shape, c.dtype, 4)
  const scale = c.scale ?? scaleFor(kind, headDim)
  using attention = await runtime.use(method, { ...shape, ...c, scale })
  using q = uploadTensor(runtime, c.dtype, [batch, queryHeads, queryLength, headDim], inputs.q, layout)
  using k = uploadTensor(runtime, c.dtype, [batch, kvHeads, keyLength, headDim], inputs.k, layout)
  using v = uploadTensor(runtime, c.dtype, [batch, kvHeads, keyLength, headDim], inputs.v, layout)
  using plan = host && uploadPlan(runtime, host, shape)
  const { out, lse } = await attention.run({ q, k, v }, plan && { plan })
  const mask = plan ? await plan.toMask() : c.causal ? 'causal' : 'none'
  if (plan && !trivial) expect((mask as Uint8Array).includes(0) && (mask as Uint8Array).includes(1)).toBe(true)
  const actual = { out: await runtime.read(out), lse: await runtime.read(lse) }
  expectAttentionClose(actual, { ...shape, ...inputs, mask, scale, dtype: c.dtype, name: JSON.stringify(c) })
  out.buffer.destroy()
  lse.buffer.destroy()
}

/** Bits past the last block are set too: kernels must not follow them out of bounds. */
function randomBits(random: Random, words: number, density: number): Uint32Array {
  return Uint32Array.from({ length: words }, () => {
    let word = 0
    for (let bit = 0; bit < 32; bit++) if (random.uniform() < density) word |= 1 << bit
    return word >>> 0
  })
}

/** What a plan knows of a call. */
export const geometryOf = (c: TestCall) => {
  const { batch, queryHeads, queryLength, keyLength } = shapeOf(c)
  return { batch, queryHeads, queryLength, keyLength, causal: c.causal }
}

/** Blocks of which a share is kept. */
export function randomBlocks(c: TestCall & { blockQ: number; blockK: number; density: number }): HostBlockPlan {
  const { blockQ, blockK } = c
  const plan = { ...geometryOf(c), blockQ, blockK }
  const { queryBlocks, wordsPerRow } = blockGrid(plan)
  const words = plan.batch * plan.queryHeads * queryBlocks * wordsPerRow
  return { kind: 'block', ...plan, bitmap: randomBits(createRandom(c.keyLength), words, c.density) }
}

/** Wide stripes at any offset, and single columns between them; every fifth row has none. */
export function randomStripes(c: TestCall & { heads: number; blockQ: number; width: number }): HostStripePlan {
  const random = createRandom(c.keyLength + c.width)
  const rows = shapeOf(c).batch * c.heads * Math.ceil(c.queryLength / c.blockQ)
  const lists = [
    { width: c.width, capacity: Math.ceil(c.keyLength / c.width) },
    { width: 1, capacity: c.keyLength },
  ]
  const counts = new Int32Array(2 * rows)
  const indices = new Int32Array(rows * (lists[0]!.capacity + lists[1]!.capacity)).fill(-1)
  for (let row = 0; row < rows; row++) {
    if (row % 5 === 4) continue
    for (let key = 0; key < c.keyLength; ) {
      const draw = random.uniform()
      const list = draw < 0.02 ? 0 : 1
      if (draw < 0.25) {
        const { capacity } = lists[list]!
        indices[list * rows * lists[0]!.capacity + row * capacity + counts[list * rows + row]!++] = key
      }
      key += draw < 0.02 ? c.width : 1
    }
  }
  return { kind: 'stripe', ...geometryOf(c), blockQ: c.blockQ, heads: c.heads, lists, counts, indices }
}

const starts = (random: Random, blocks: number, length: number) => {
  const cuts = Array.from({ length: blocks - 1 }, () => Math.floor(random.uniform() * (length + 1)))
  return [0, ...cuts.sort((a, b) => a - b), length]
}

/** Blocks whose sizes are random too: some are empty. */
export function randomClusters(
  c: TestCall & { queryBlocks: number; keyBlocks: number; keyHeads: number },
): HostVariableBlockPlan {
  const { queryBlocks, keyBlocks, keyHeads } = c
  const { batch, queryHeads } = shapeOf(c)
  const random = createRandom(c.keyLength)
  const repeat = (count: number, make: () => number[]) => Int32Array.from(Array.from({ length: count }, make).flat())
  const words = Math.ceil(keyBlocks / 32)
  const bitmap = randomBits(random, batch * queryHeads * queryBlocks * words, 0.4)
  // One row keeps all: whole words are set, and bits behind the last block, too.
  bitmap.fill(0xffffffff, 0, words)
  return {
    kind: 'variable-block',
    ...geometryOf(c),
    queryBlocks,
    keyBlocks,
    keyHeads,
    bitmap,
    queryStarts: repeat(batch * queryHeads, () => starts(random, queryBlocks, c.queryLength)),
    keyStarts: repeat(batch * keyHeads, () => starts(random, keyBlocks, c.keyLength)),
  }
}
