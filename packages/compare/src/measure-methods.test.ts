import { defineMethod } from '@sparse-attention/core'
import { dense } from '@sparse-attention/kernels'
import { xattention } from '@sparse-attention/prefill'
import { testRuntime, trackBuffers } from '@sparse-attention/testing'
import { expect, it } from 'vitest'
import type { AttentionInput } from './attention-input.js'
import { measureMethods } from './measure-methods.js'

/** 8 queries over 8 keys of one head: what counts here is memory. */
const array = { shape: [1, 1, 8, 8], elements: new Float32Array(64).fill(0.5) }
const input: AttentionInput = {
  ...{ batch: 1, queryHeads: 1, kvHeads: 1, queryLength: 8, keyLength: 8, headDim: 8, dtype: 'f32' },
  ...{ q: array, k: array, v: array },
}
const methods = [dense(), xattention({ threshold: 0.5 })]
const never = new AbortController().signal
const { definition } = dense
const broken = defineMethod({
  ...definition,
  id: 'broken',
  create: async (...args) => ({
    ...(await definition.create(...args)),
    plan() {
      throw new Error('cannot plan')
    },
  }),
})
const causalOnly = defineMethod({
  ...definition,
  id: 'causal-only',
  capabilities: { ...definition.capabilities, causal: [true] },
})

it('frees what it made: at the end, when cancelled between methods, and when a method fails', async () => {
  const runtime = await testRuntime()
  const options = { causal: false, runs: 1, signal: never, onRun() {} }
  await measureMethods(runtime, methods, input, options) // the runtime's own scratch stays
  using buffers = trackBuffers(runtime.device)

  expect(await measureMethods(runtime, methods, input, options)).toHaveLength(2)
  expect(buffers.created).toBeGreaterThan(5)
  expect(buffers.live).toBe(0)

  const controller = new AbortController()
  const reason = new Error('enough')
  const seen: string[] = []
  const onRun = (id: string) => {
    seen.push(id)
    if (seen.length === 2) controller.abort(reason)
  }
  const cancelled = measureMethods(runtime, methods, input, { ...options, onRun, signal: controller.signal })
  await expect(cancelled).rejects.toBe(reason)
  expect(seen).toEqual(['dense', 'dense'])
  expect(buffers.live).toBe(0)

  await expect(measureMethods(runtime, [...methods, broken()], input, options)).rejects.toThrow('cannot plan')
  expect(buffers.live).toBe(0)
})

it('refuses a method that does not take the tensors before any runs', async () => {
  const seen: string[] = []
  const options = { causal: false, runs: 1, signal: never, onRun: (id: string) => void seen.push(id) }
  const refused = measureMethods(await testRuntime(), [...methods, causalOnly()], input, options)
  await expect(refused).rejects.toMatchObject({ code: 'UNSUPPORTED' })
  expect(seen).toEqual([])
})
