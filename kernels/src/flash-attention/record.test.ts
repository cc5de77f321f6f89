import type { AttentionFrame, Kernel, Runtime, Tensor } from '@sparse-attention/core'
import { expect, test } from 'vitest'
import { type CompiledFlash, recordFlash } from './record.js'

/** Records without a GPU: what is cut where, and what it is said to cost. */
const runtime = {
  uniforms: { get: () => ({}) },
  dispatchBudget: (operationsPerSecond?: number) =>
    operationsPerSecond === undefined ? 1e11 : operationsPerSecond / 10,
} as unknown as Runtime

function frame(queryLength: number, causal: boolean): AttentionFrame {
  const tensor = (length: number): Tensor => ({
    buffer: { size: 8 * length * 128 * 2 } as GPUBuffer,
    dtype: 'f16',
    shape: [1, 8, length, 128],
    strides: [8 * length * 128, length * 128, 128, 1],
    offset: 0,
  })
  const lse = {
    ...tensor(queryLength),
    dtype: 'f32',
    shape: [1, 8, queryLength],
    strides: [8 * queryLength, queryLength, 1],
  }
  const q = tensor(queryLength)
  const shape = { batch: 1, queryHeads: 8, kvHeads: 8, queryLength, keyLength: queryLength, headDim: 128 }
  return { ...shape, q, k: q, v: q, out: q, lse, causal, scale: 1, scratch: () => ({}) } as unknown as AttentionFrame
}

const flash: CompiledFlash = { kernel: {} as Kernel, plan: 'block', rows: 64 }

/** Row blocks and operations of each dispatch. */
const cut = (form: CompiledFlash, queryLength: number, causal = false) =>
  recordFlash(runtime, form, frame(queryLength, causal), { kind: 'dense' }).map(({ workgroups, cost }) => ({
    rowBlocks: (workgroups as readonly number[])[0]!,
    operations: cost.operations,
  }))

test('dispatches stay below the budget and share the work evenly: none is left with a few rows', () => {
  expect(cut(flash, 8192).map(({ rowBlocks }) => rowBlocks)).toEqual([43, 43, 42])
  for (const causal of [false, true]) {
    const parts = cut(flash, 32768, causal)
    const operations = parts.map((part) => part.operations)
    expect(Math.max(...operations)).toBeLessThanOrEqual(1e11)
    expect(parts.reduce((sum, part) => sum + part.rowBlocks, 0)).toBe(32768 / 64)
    // One block of the latest rows is 1 % of the budget or more.
    expect(Math.min(...operations)).toBeGreaterThan(0.8 * Math.max(...operations))
  }
})

test('a dispatch grows with what is known of its speed', () => {
  expect(cut({ ...flash, speed: 2 }, 8192)).toHaveLength(2)
  expect(cut({ ...flash, operationsPerSecond: 2e13 }, 8192)).toHaveLength(1)
  expect(cut({ ...flash, speed: 16, operationsPerSecond: 1e12 }, 8192)).toHaveLength(3)
  expect(cut({ ...flash, operationsPerSecond: 1e11 }, 8192).length).toBeGreaterThan(27)
})
