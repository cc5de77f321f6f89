import { attendRow, type HeadMemory, worst } from '@sparse-attention/compare'
import { type HostPlan, halvesToFloats, hasBlock, Random, type Runtime, type Tensor } from '@sparse-attention/core'
import type { CallTensors } from './device-input.js'

/** Rows of each of the heads checked: the first, the last, and others. */
const rowsPerHead = 8

/**
 * Reads some rows of an answer and what they attended to back from the device, and computes them again in float64 over the
 * same selection.
 *
 * @param tensors contiguous [B, H, L, D] with batch 1; `out` and `lse` hold the answer
 * @returns ‖out − exact‖₂ ÷ ‖exact‖₂ over these rows, or the largest difference in their LSE, whichever is larger
 */
export async function errorOnDevice(
  runtime: Runtime,
  tensors: CallTensors,
  { causal, scale, seed }: { readonly causal: boolean; readonly scale: number; readonly seed: number },
  plan?: HostPlan,
): Promise<number> {
  const { shape, q, out, lse } = tensors
  const { queryHeads, kvHeads, queryLength, keyLength, headDim } = shape
  const random = new Random(seed)
  let [difference, magnitude, lseDifference] = [0, 0, 0]
  for (const head of new Set([0, queryHeads - 1])) {
    const kvHead = Math.floor((head * kvHeads) / queryHeads)
    const memory = await readHead(runtime, tensors, kvHead)
    const others = Array.from({ length: rowsPerHead - 2 }, () => random.integer(queryLength))
    for (const row of new Set([0, queryLength - 1, ...others])) {
      const at = head * queryLength + row
      const query = await readHalves(runtime, q, at * headDim, headDim)
      const end = causal ? Math.min(keyLength, row + keyLength - queryLength + 1) : keyLength
      const exact = attendRow(query, memory, plan ? keysOfRow(plan, head, row) : [0, keyLength], end, scale)
      const found = await readHalves(runtime, out, at * headDim, headDim)
      const bytes = await runtime.readBytes({ buffer: lse.buffer, offsetBytes: 4 * at, sizeBytes: 4 })
      for (let d = 0; d < headDim; d++) {
        difference += (found[d]! - exact.out[d]!) ** 2
        magnitude += exact.out[d]! ** 2
      }
      if (Number.isFinite(exact.lse))
        lseDifference = worst(lseDifference, Math.abs(new Float32Array(bytes)[0]! - exact.lse))
    }
  }
  return worst(Math.sqrt(difference / Math.max(magnitude, Number.MIN_VALUE)), lseDifference)
}

/** Heads that were read before: the same tensors are attended to in many ways. */
const heads = new WeakMap<CallTensors, Map<number, HeadMemory>>()

async function readHead(runtime: Runtime, tensors: CallTensors, kvHead: number): Promise<HeadMemory> {
  const known = heads.get(tensors) ?? new Map<number, HeadMemory>()
  heads.set(tensors, known)
  const { keyLength, headDim } = tensors.shape
  const [first, count] = [kvHead * keyLength * headDim, keyLength * headDim]
  const memory = known.get(kvHead) ?? {
    k: await readHalves(runtime, tensors.k, first, count),
    v: await readHalves(runtime, tensors.v, first, count),
    at: (key: number) => key * headDim,
  }
  known.set(kvHead, memory)
  return memory
}

/** A range of an f16 tensor's elements; both numbers are even. */
async function readHalves(runtime: Runtime, { buffer }: Tensor, first: number, count: number): Promise<Float32Array> {
  const bytes = await runtime.readBytes({ buffer, offsetBytes: 2 * first, sizeBytes: 2 * count })
  return halvesToFloats(new Uint16Array(bytes))
}

/**
 * What one row of a plan of batch 1 keeps, as first and end of disjoint ranges of keys. Reads that row of the plan only.
 */
export function keysOfRow(plan: HostPlan, head: number, row: number): number[] {
  if (!('permutation' in plan)) return keysAtPosition(plan, head, row)
  const { queries, keys, keyHeads } = plan.permutation
  const { queryHeads, queryLength, keyLength } = plan
  const position = queries.subarray(head * queryLength, (head + 1) * queryLength).indexOf(row)
  const ranges = keysAtPosition(plan, head, position)
  const order = keys.subarray(Math.floor((head * keyHeads) / queryHeads) * keyLength)
  const tokens: number[] = []
  for (let i = 0; i < ranges.length; i += 2)
    for (let at = ranges[i]!; at < ranges[i + 1]!; at++) tokens.push(order[at]!, order[at]! + 1)
  return tokens
}

function keysAtPosition(plan: HostPlan, head: number, row: number): number[] {
  switch (plan.kind) {
    case 'block': {
      const { keyLength, blockQ, blockK } = plan
      const keys: number[] = []
      for (let first = 0; first < keyLength; first += blockK) {
        if (hasBlock(plan, 0, head, Math.floor(row / blockQ), first / blockK))
          keys.push(first, Math.min(first + blockK, keyLength))
      }
      return keys
    }
    case 'stripe': {
      const rows = Math.ceil(plan.queryLength / plan.blockQ)
      const at = Math.floor((head * plan.heads) / plan.queryHeads) * rows + Math.floor(row / plan.blockQ)
      const keys: number[] = []
      let list = 0
      for (const [n, { width, capacity }] of plan.lists.entries()) {
        for (let i = 0; i < plan.counts[n * plan.heads * rows + at]!; i++) {
          const first = plan.indices[list + at * capacity + i]!
          keys.push(first, Math.min(first + width, plan.keyLength))
        }
        list += plan.heads * rows * capacity
      }
      return keys
    }
    case 'variable-block': {
      const { queryBlocks, keyBlocks, keyHeads, queryHeads } = plan
      const starts = plan.queryStarts.subarray(head * (queryBlocks + 1), (head + 1) * (queryBlocks + 1))
      const block = starts.findIndex((first, a) => first <= row && row < (starts[a + 1] ?? 0))
      const word = (head * queryBlocks + block) * Math.ceil(keyBlocks / 32)
      const from = Math.floor((head * keyHeads) / queryHeads) * (keyBlocks + 1)
      const keys: number[] = []
      for (let c = 0; c < keyBlocks; c++) {
        if ((plan.bitmap[word + (c >> 5)]! >>> (c & 31)) & 1)
          keys.push(plan.keyStarts[from + c]!, plan.keyStarts[from + c + 1]!)
      }
      return keys
    }
  }
}
