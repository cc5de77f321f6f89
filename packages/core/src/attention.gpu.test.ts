import {
  createRuntime,
  type HostBlockPlan,
  type Plan,
  type Runtime,
  SparseAttentionError,
  uploadPlan,
} from '@sparse-attention/core'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { ErrorCode } from './errors.js'
import type { AttentionTensors } from './method.js'
import { permute, type Tensor } from './tensor.js'
import { config, disposeAll, expectedResult, makeTensors, programCalls, scaledCopy, watch } from './test-support.js'

let runtime: Runtime

beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime?.dispose())
beforeEach(() => {
  programCalls.length = 0
})

const refusal = (code: ErrorCode) => expect.objectContaining({ code })

/** A runtime on the same device whose submits hold one head each. */
const cuttingRuntime = () => createRuntime({ device: runtime.device, work: { operationsPerSubmit: 1e6 } })

async function read({ out, lse }: { out: Tensor; lse?: Tensor }): Promise<{ out: number[]; lse?: number[] }> {
  return { out: [...(await runtime.read(out))], ...(lse && { lse: [...(await runtime.read(lse))] }) }
}

describe('run', () => {
  test('gives output, LSE and plan in new tensors that the caller owns', async () => {
    using attention = await runtime.use(scaledCopy({ factor: 3 }), config)
    expect(attention.id).toBe('scaled-copy')
    expect(attention.config).toEqual({ ...config, kvHeads: 4, scale: 1 / Math.sqrt(8) })
    const tensors = makeTensors(runtime, 5)
    const result = await attention.run(tensors)
    expect(await read(result)).toEqual(expectedResult(5, 3))
    expect(result.out).toMatchObject({ dtype: 'f32', shape: [2, 4, 10, 8] })
    expect(result.lse).toMatchObject({ dtype: 'f32', shape: [2, 4, 10] })
    expect(result.plan).toMatchObject({ method: 'scaled-copy', path: 'sparse', causal: false })
    attention.dispose()
    expect(await read(result)).toEqual(expectedResult(5, 3)) // outputs outlive the attention
    disposeAll(tensors)
    disposeAll({ ...tensors, ...result })
  })

  test('fills outputs of the caller, and returns them', async () => {
    using attention = await runtime.use(scaledCopy(), config)
    const outputs = { out: runtime.tensor('f32', [2, 4, 10, 8]), lse: runtime.tensor('f32', [2, 4, 10]) }
    const tensors = { ...makeTensors(runtime), ...outputs }
    const result = await attention.run(tensors)
    expect(result.out).toBe(outputs.out)
    expect(result.lse).toBe(outputs.lse)
    expect(await read(result)).toEqual(expectedResult(1, 2))
    disposeAll(tensors)
  })

  test('reads nothing back and leaves no buffer behind but its outputs', async () => {
    using attention = await runtime.use(scaledCopy(), config)
    const tensors = makeTensors(runtime)
    disposeAll({ ...tensors, ...(await attention.run(tensors)), q: tensors.k }) // warms plan memory and scratch
    using watched = watch(runtime.device)
    for (let n = 0; n < 20; n++) {
      const { out, lse } = await attention.run(tensors)
      expect(watched.live()).toBe(2)
      out.buffer.destroy()
      lse.buffer.destroy()
    }
    expect(watched.counts.maps).toBe(0)
    expect(watched.live()).toBe(0)
  })

  test('resolves after the last submit, and cuts work by the budget', async () => {
    using cutting = await cuttingRuntime()
    using attention = await cutting.use(scaledCopy(), config)
    const tensors = makeTensors(runtime)
    using watched = watch(runtime.device)
    const result = await attention.run(tensors)
    // Planning and scaling cost less than one of the 8 heads, but with it more than a submit holds.
    expect(watched.counts.submits).toBe(9)
    expect(await read(result)).toEqual(expectedResult(1, 2))
    disposeAll({ ...tensors, ...result })
  })
})

describe('encode', () => {
  test('records and does not submit; the result is that of run', async () => {
    using attention = await runtime.use(scaledCopy(), config)
    const tensors = {
      ...makeTensors(runtime, 9),
      out: runtime.tensor('f32', [2, 4, 10, 8]),
      lse: runtime.tensor('f32', [2, 4, 10]),
    }
    using watched = watch(runtime.device)
    const encoder = runtime.device.createCommandEncoder()
    const plan = attention.encode(encoder, tensors)
    expect(watched.counts).toMatchObject({ maps: 0, submits: 0 })
    runtime.device.queue.submit([encoder.finish()])
    expect(await read(tensors)).toEqual(expectedResult(9, 2))
    expect(((await plan.read()) as HostBlockPlan).bitmap[0]).toBe(9)
    disposeAll(tensors)
  })

  test('works without an lse', async () => {
    using attention = await runtime.use(scaledCopy(), config)
    const tensors = { ...makeTensors(runtime), out: runtime.tensor('f32', [2, 4, 10, 8]) }
    const encoder = runtime.device.createCommandEncoder()
    attention.encode(encoder, tensors)
    runtime.device.queue.submit([encoder.finish()])
    expect((await read(tensors)).out).toEqual(expectedResult(1, 2).out)
    disposeAll(tensors)
  })

  test('needs out', async () => {
    using attention = await runtime.use(scaledCopy(), config)
    const tensors = makeTensors(runtime)
    const encoder = runtime.device.createCommandEncoder()
    expect(() => attention.encode(encoder, tensors)).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT', where: 'out' }),
    )
    disposeAll(tensors)
  })

  test('two calls in one encoder, the second of a larger shape, do not disturb each other', async () => {
    using attention = await runtime.use(scaledCopy(), config)
    const calls = [
      { first: 3, queryLength: 10 },
      { first: 4, queryLength: 700 },
    ].map(({ first, queryLength }) => ({
      first,
      rows: 8 * queryLength,
      tensors: {
        ...makeTensors(runtime, first, { queryLength, keyLength: 5000 }),
        out: runtime.tensor('f32', [2, 4, queryLength, 8]),
        lse: runtime.tensor('f32', [2, 4, queryLength]),
      },
    }))
    runtime.device.pushErrorScope('validation')
    const encoder = runtime.device.createCommandEncoder()
    for (const { tensors } of calls) attention.encode(encoder, tensors)
    runtime.device.queue.submit([encoder.finish()])
    expect(await runtime.device.popErrorScope()).toBeNull()
    for (const { first, rows, tensors } of calls) {
      expect(await read(tensors)).toEqual(expectedResult(first, 2, rows))
      disposeAll(tensors)
    }
  })

  test('two calls in one encoder may need more scratch than the budget, if one alone does not', async () => {
    using small = await createRuntime({ device: runtime.device, scratchBudgetBytes: 5000 })
    using attention = await small.use(scaledCopy(), config)
    // 2560 and 4096 bytes: the second call evicts the buffer that the first one recorded.
    const calls = [10, 16].map((queryLength) => ({
      ...makeTensors(runtime, 1, { queryLength }),
      out: runtime.tensor('f32', [2, 4, queryLength, 8]),
    }))
    runtime.device.pushErrorScope('validation')
    const encoder = runtime.device.createCommandEncoder()
    for (const tensors of calls) attention.encode(encoder, tensors)
    runtime.device.queue.submit([encoder.finish()])
    expect(await runtime.device.popErrorScope()).toBeNull()
    for (const tensors of calls) {
      expect((await read(tensors)).out).toEqual(expectedResult(1, 2, tensors.q.shape[2]! * 8).out)
      disposeAll(tensors)
    }
  })

  test('in parts: each is small enough for a submit of its own, and together they give the result of run', async () => {
    using cutting = await cuttingRuntime()
    using attention = await cutting.use(scaledCopy(), config)
    const tensors = {
      ...makeTensors(runtime),
      out: runtime.tensor('f32', [2, 4, 10, 8]),
      lse: runtime.tensor('f32', [2, 4, 10]),
    }
    const { parts } = attention.encodeParts(tensors)
    expect(parts.length).toBe(9)
    for (const part of parts) {
      const encoder = runtime.device.createCommandEncoder()
      part(encoder)
      runtime.device.queue.submit([encoder.finish()])
    }
    expect(await read(tensors)).toEqual(expectedResult(1, 2))
    disposeAll(tensors)
  })

  test('is BUSY while a run is under way, and free after it', async () => {
    using attention = await runtime.use(scaledCopy(), config)
    const tensors = { ...makeTensors(runtime), out: runtime.tensor('f32', [2, 4, 10, 8]) }
    const running = attention.run(tensors)
    const encoder = runtime.device.createCommandEncoder()
    expect(() => attention.encode(encoder, tensors)).toThrow(refusal('BUSY'))
    expect(() => attention.encodeParts(tensors)).toThrow(refusal('BUSY'))
    const { lse } = await running
    await Promise.resolve()
    attention.encode(encoder, tensors)
    disposeAll({ ...tensors, lse })
  })
})

describe('bad input is refused before GPU work, and nothing is leaked', () => {
  type Wrong = (tensors: AttentionTensors) => Partial<Record<'q' | 'k' | 'v' | 'out' | 'lse', Tensor>>
  const half = (tensor: Tensor): Tensor => ({ ...tensor, dtype: 'f16' })
  const shaped = (tensor: Tensor, shape: number[]): Tensor => ({ ...tensor, shape })

  const cases: [string, ErrorCode, Wrong][] = [
    ['a length of zero', 'INVALID_SHAPE', ({ q }) => ({ q: shaped(q, [2, 4, 0, 8]) })],
    ['mismatched heads', 'INVALID_SHAPE', ({ k }) => ({ k: shaped(k, [2, 2, 20, 8]) })],
    ['mismatched head_dim', 'INVALID_SHAPE', ({ v }) => ({ v: shaped(v, [2, 4, 10, 16]) })],
    ['another batch', 'INVALID_SHAPE', ({ v }) => ({ v: shaped(v, [1, 4, 20, 8]) })],
    ['a wrong dtype', 'INVALID_DTYPE', ({ q }) => ({ q: half(q) })],
    [
      'a short buffer',
      'BUFFER_TOO_SMALL',
      ({ k, v }) => ({ k: shaped(k, [2, 4, 21, 8]), v: shaped(v, [2, 4, 21, 8]) }),
    ],
    ['a scattered last axis', 'INVALID_VIEW', ({ q }) => ({ q: { ...q, strides: [320, 80, 1, 10] } })],
    ['an output that is an input', 'INVALID_ARGUMENT', ({ q }) => ({ out: q })],
    ['a missing tensor', 'INVALID_ARGUMENT', () => ({ k: undefined as never })],
  ]

  test.each(cases)('%s: %s from run, encode and encodeParts', async (_, code, wrong) => {
    using attention = await runtime.use(scaledCopy(), config)
    const good = { ...makeTensors(runtime), out: runtime.tensor('f32', [2, 4, 10, 8]) }
    const bad = { ...good, ...wrong(good) }
    using watched = watch(runtime.device)
    const { out: _out, ...withoutOut } = bad
    await expect(attention.run(wrong(good).out ? bad : withoutOut)).rejects.toThrow(refusal(code))
    const encoder = runtime.device.createCommandEncoder()
    expect(() => attention.encode(encoder, bad)).toThrow(refusal(code))
    expect(() => attention.encodeParts(bad)).toThrow(refusal(code))
    expect(watched.counts).toEqual({ created: 0, maps: 0, submits: 0 })
    // A refused call leaves the attention usable.
    disposeAll({ ...good, ...(await attention.run(good)) })
  })

  test.each<[object, ErrorCode]>([
    [{ headDim: 12 }, 'UNSUPPORTED'],
    [{ headDim: 72 }, 'UNSUPPORTED'],
    [{ dtype: 'f16' }, 'INVALID_DTYPE'],
    [{ queryHeads: 0 }, 'INVALID_ARGUMENT'],
    [{ kvHeads: 3 }, 'INVALID_ARGUMENT'],
    [{ scale: Number.NaN }, 'INVALID_ARGUMENT'],
  ])('use with %j: %s', async (wrong, code) => {
    using watched = watch(runtime.device)
    await expect(runtime.use(scaledCopy(), { ...config, ...wrong })).rejects.toThrow(refusal(code))
    expect(watched.counts.created).toBe(0)
  })

  test('a destroyed input: INVALID_ARGUMENT, and the outputs are freed', async () => {
    using attention = await runtime.use(scaledCopy(), config)
    const tensors = makeTensors(runtime)
    disposeAll({ ...tensors, ...(await attention.run(tensors)), q: tensors.v, k: tensors.v })
    tensors.q.dispose()
    using watched = watch(runtime.device)
    await expect(attention.run(tensors)).rejects.toThrow(refusal('INVALID_ARGUMENT'))
    expect(watched.live()).toBe(0)
    disposeAll(tensors)
  })

  test('a tensor of another device: INVALID_ARGUMENT', async () => {
    using other = await createRuntime()
    using attention = await runtime.use(scaledCopy(), config)
    const tensors = makeTensors(runtime)
    const foreign = makeTensors(other)
    await expect(attention.run({ ...tensors, q: foreign.q })).rejects.toThrow(refusal('INVALID_ARGUMENT'))
    disposeAll(tensors)
    disposeAll(foreign)
  })

  test('scratch above the budget: OUT_OF_MEMORY, outputs are freed, and smaller calls go on', async () => {
    using small = await createRuntime({ device: runtime.device, scratchBudgetBytes: 4096 })
    using attention = await small.use(scaledCopy(), config)
    const fits = makeTensors(runtime)
    const large = makeTensors(runtime, 1, { queryLength: 100 })
    await expect(attention.run(large)).rejects.toThrow(refusal('OUT_OF_MEMORY')) // leaves plan memory and uniforms
    using watched = watch(runtime.device)
    await expect(attention.run(large)).rejects.toThrow(refusal('OUT_OF_MEMORY'))
    expect(watched.counts.created).toBe(2)
    expect(watched.live()).toBe(0)
    const again = await attention.run(fits)
    expect(await read(again)).toEqual(expectedResult(1, 2))
    disposeAll(large)
    disposeAll({ ...fits, ...again })
  })
})

describe('plans', () => {
  test('a plan is stale after the next call, a clone is not', async () => {
    using attention = await runtime.use(scaledCopy(), config)
    const [one, two] = [makeTensors(runtime, 1), makeTensors(runtime, 2)]
    const first = await attention.run(one)
    using clone = first.plan.clone()
    const second = await attention.run(two)
    await expect(first.plan.read()).rejects.toThrow(refusal('STALE_PLAN'))
    await expect(first.plan.stats()).rejects.toThrow(refusal('STALE_PLAN'))
    await expect(first.plan.toMask()).rejects.toThrow(refusal('STALE_PLAN'))
    expect(() => first.plan.clone()).toThrow(refusal('STALE_PLAN'))
    await expect(attention.run(one, { plan: first.plan })).rejects.toThrow(refusal('STALE_PLAN'))
    expect(((await clone.read()) as HostBlockPlan).bitmap[0]).toBe(1)
    expect(((await second.plan.read()) as HostBlockPlan).bitmap[0]).toBe(2)
    for (const result of [first, second]) disposeAll({ ...one, ...result, q: one.k })
    disposeAll(one)
    disposeAll(two)
  })

  test('a call over a given plan uses it, and leaves the attention’s own plan as it was', async () => {
    using attention = await runtime.use(scaledCopy(), config)
    const [one, two] = [makeTensors(runtime, 1), makeTensors(runtime, 2)]
    const first = await attention.run(one)
    const second = await attention.run(two, { plan: first.plan })
    expect(second.plan).toBe(first.plan)
    expect((await read(second)).lse).toEqual(expectedResult(1, 2).lse) // from the plan of q = 1, …
    expect((await read(second)).out).toEqual(expectedResult(2, 2).out)
    for (const result of [first, second]) disposeAll({ ...one, ...result })
    disposeAll(two)
  })

  test('a plan of another attention of the same runtime may be used', async () => {
    using maker = await runtime.use(scaledCopy(), config)
    using user = await runtime.use(scaledCopy({ factor: 5 }), config)
    const [one, two] = [makeTensors(runtime, 1), makeTensors(runtime, 2)]
    const made = await maker.run(one)
    const used = await user.run(two, { plan: made.plan })
    expect(await read(used)).toEqual({ out: expectedResult(2, 5).out, lse: expectedResult(1, 5).lse })
    for (const result of [made, used]) disposeAll({ ...one, ...result })
    disposeAll(two)
  })

  test('a plan from another runtime, another shape or another causality is refused', async () => {
    using attention = await runtime.use(scaledCopy(), config)
    using causal = await runtime.use(scaledCopy(), { ...config, causal: true })
    using other = await createRuntime({ device: runtime.device })
    using foreign = await other.use(scaledCopy(), config)
    const tensors = makeTensors(runtime)
    const longer = makeTensors(runtime, 1, { queryLength: 11 })
    const moreKeys = makeTensors(runtime, 1, { keyLength: 21 })
    const single = makeTensors(runtime, 1, { batch: 1 })
    const made = await attention.run(tensors)
    using watched = watch(runtime.device)
    const { plan } = made
    await expect(foreign.run(tensors, { plan })).rejects.toThrow(refusal('WRONG_RUNTIME'))
    for (const shape of [longer, moreKeys, single]) {
      await expect(attention.run(shape, { plan })).rejects.toThrow(refusal('INVALID_SHAPE'))
    }
    await expect(causal.run(tensors, { plan })).rejects.toThrow(refusal('INVALID_SHAPE'))
    expect(watched.live()).toBe(0)
    expect(watched.counts.submits).toBe(0)
    for (const all of [tensors, longer, moreKeys, single]) disposeAll(all)
    disposeAll({ ...tensors, ...made })
  })

  test('an attention’s plan is stale once it is disposed of', async () => {
    const attention = await runtime.use(scaledCopy(), config)
    const tensors = makeTensors(runtime)
    const result = await attention.run(tensors)
    attention.dispose()
    await expect(result.plan.read()).rejects.toThrow(refusal('STALE_PLAN'))
    disposeAll({ ...tensors, ...result })
  })

  test('uploaded plans serve any attention of the runtime until they are disposed of', async () => {
    using attention = await runtime.use(scaledCopy(), config)
    const tensors = makeTensors(runtime, 3)
    const lengths = { queryLength: 10, keyLength: 20, blockQ: 64, blockK: 64, causal: false }
    const host = { kind: 'block', batch: 2, queryHeads: 4, ...lengths } as const
    const shape = { batch: 2, queryHeads: 4, kvHeads: 4, queryLength: 10, keyLength: 20, headDim: 8 }
    const plan: Plan = uploadPlan(runtime, { ...host, bitmap: new Uint32Array(8).fill(77) }, shape)
    const result = await attention.run(tensors, { plan })
    expect((await read(result)).lse).toEqual(expectedResult(77, 2).lse)
    plan.dispose()
    plan.dispose()
    await expect(attention.run(tensors, { plan })).rejects.toThrow(refusal('DISPOSED'))
    await expect(plan.read()).rejects.toThrow(refusal('DISPOSED'))
    disposeAll({ ...tensors, ...result })
  })
})

describe('concurrent runs', () => {
  test('on one attention: each gives the result of a single run', async () => {
    using cutting = await cuttingRuntime()
    using attention = await cutting.use(scaledCopy(), config)
    const inputs = [1, 2, 3, 4].map((first) => makeTensors(runtime, first, { queryLength: 10 + first }))
    const results = await Promise.all(inputs.map((tensors) => attention.run(tensors)))
    for (const [i, result] of results.entries()) {
      expect(await read(result)).toEqual(expectedResult(i + 1, 2, 8 * (11 + i)))
      disposeAll({ ...inputs[i]!, ...result })
    }
  })

  test('on two attentions of one runtime, likewise', async () => {
    using cutting = await cuttingRuntime()
    using double = await cutting.use(scaledCopy({ factor: 2 }), config)
    using triple = await cutting.use(scaledCopy({ factor: 3 }), config)
    const inputs = [1, 2, 3, 4].map((first) => makeTensors(runtime, first))
    const results = await Promise.all(inputs.map((tensors, i) => (i % 2 ? triple : double).run(tensors)))
    for (const [i, result] of results.entries()) {
      expect(await read(result)).toEqual(expectedResult(i + 1, 2 + (i % 2)))
      disposeAll({ ...inputs[i]!, ...result })
    }
  })

  test('a failed run does not disturb the ones around it', async () => {
    using attention = await runtime.use(scaledCopy(), config)
    const good = [1, 2].map((first) => makeTensors(runtime, first))
    const bad = makeTensors(runtime, 9)
    bad.q.dispose()
    const runs = [attention.run(good[0]!), attention.run(bad), attention.run({} as never), attention.run(good[1]!)]
    const [first, destroyed, missing, last] = await Promise.allSettled(runs)
    expect([destroyed, missing]).toEqual([
      { status: 'rejected', reason: refusal('INVALID_ARGUMENT') },
      { status: 'rejected', reason: refusal('INVALID_ARGUMENT') },
    ])
    for (const [i, outcome] of [first, last].entries()) {
      if (outcome?.status !== 'fulfilled') throw new Error('refused')
      expect(await read(outcome.value)).toEqual(expectedResult(i + 1, 2))
      disposeAll({ ...good[i]!, ...outcome.value })
    }
    disposeAll(bad)
  })
})

describe('cancellation', () => {
  test('an aborted signal stops a run before it starts: the reason is the signal’s own', async () => {
    using attention = await runtime.use(scaledCopy(), config)
    const tensors = makeTensors(runtime)
    using watched = watch(runtime.device)
    const reason = new Error('changed my mind')
    await expect(attention.run(tensors, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
    const other = attention.run(tensors, { signal: AbortSignal.abort() })
    await expect(other).rejects.toMatchObject({ name: 'AbortError' })
    expect(watched.counts).toEqual({ created: 0, maps: 0, submits: 0 })
    disposeAll(tensors)
  })

  test('in the middle: no further submit, outputs are freed, those of the caller are not', async () => {
    using cutting = await cuttingRuntime()
    using attention = await cutting.use(scaledCopy(), config)
    const tensors = makeTensors(runtime)
    disposeAll({ ...tensors, ...(await attention.run(tensors)), q: tensors.k })
    const again = makeTensors(runtime)
    const out = runtime.tensor('f32', [2, 4, 10, 8])
    using watched = watch(runtime.device)
    const controller = new AbortController()
    watched.onSubmit = (submits) => submits === 3 && controller.abort('enough')
    await expect(attention.run({ ...again, out }, { signal: controller.signal })).rejects.toBe('enough')
    expect(watched.counts.submits).toBeLessThanOrEqual(4)
    expect(watched.live()).toBe(0)
    expect([...(await runtime.read(out))].length).toBe(640) // still there
    const result = await attention.run(again)
    expect(await read(result)).toEqual(expectedResult(1, 2))
    disposeAll(tensors)
    disposeAll({ ...again, ...result })
    out.dispose()
  })
})

describe('lifetimes', () => {
  test('dispose frees everything, tells the program once, and may be called twice', async () => {
    using watched = watch(runtime.device)
    const attention = await runtime.use(scaledCopy({ factor: 7 }), config)
    const tensors = makeTensors(runtime)
    const before = runtime.scratch.allocatedBytes
    disposeAll({ ...tensors, ...(await attention.run(tensors)) })
    expect(runtime.scratch.allocatedBytes).toBe(before)
    const pooled = watched.live() // the plan, and uniforms that the runtime keeps
    attention.dispose()
    attention.dispose()
    attention[Symbol.dispose]()
    expect(watched.live()).toBe(pooled - 1)
    expect(programCalls).toEqual(['dispose'])
  })

  test('every call on a disposed attention is DISPOSED', async () => {
    const attention = await runtime.use(scaledCopy(), config)
    const tensors = { ...makeTensors(runtime), out: runtime.tensor('f32', [2, 4, 10, 8]) }
    attention.dispose()
    using watched = watch(runtime.device)
    const encoder = runtime.device.createCommandEncoder()
    await expect(attention.run(tensors)).rejects.toThrow(refusal('DISPOSED'))
    expect(() => attention.encode(encoder, tensors)).toThrow(refusal('DISPOSED'))
    expect(() => attention.encodeParts(tensors)).toThrow(refusal('DISPOSED'))
    expect(watched.counts.created).toBe(0)
    disposeAll(tensors)
  })

  test('disposed of during a run: the run is DISPOSED and its outputs are freed', async () => {
    using cutting = await cuttingRuntime()
    const attention = await cutting.use(scaledCopy(), config)
    const tensors = makeTensors(runtime)
    disposeAll({ ...tensors, ...(await attention.run(tensors)), q: tensors.k })
    const again = makeTensors(runtime)
    using watched = watch(runtime.device)
    watched.onSubmit = (submits) => submits === 2 && attention.dispose()
    await expect(attention.run(again)).rejects.toThrow(refusal('DISPOSED'))
    expect(watched.live()).toBe(0)
    disposeAll(tensors)
    disposeAll(again)
  })

  test('a runtime disposed of during a run: likewise', async () => {
    const borrower = await cuttingRuntime()
    const attention = await borrower.use(scaledCopy(), config)
    const tensors = makeTensors(runtime)
    disposeAll({ ...tensors, ...(await attention.run(tensors)) })
    const again = makeTensors(runtime)
    using watched = watch(runtime.device)
    watched.onSubmit = (submits) => submits === 2 && borrower.dispose()
    await expect(attention.run(again)).rejects.toThrow(refusal('DISPOSED'))
    expect(watched.live()).toBe(0)
    attention.dispose()
    disposeAll(again)
  })

  test('reset reaches the program', async () => {
    using attention = await runtime.use(scaledCopy(), config)
    attention.reset()
    expect(programCalls).toEqual(['reset'])
  })

  test('buffers of the caller are never destroyed', async () => {
    const tensors = {
      ...makeTensors(runtime),
      out: runtime.tensor('f32', [2, 4, 10, 8]),
      lse: runtime.tensor('f32', [2, 4, 10]),
    }
    const destroyed: string[] = []
    for (const name of ['q', 'k', 'v', 'out', 'lse'] as const) {
      const { buffer } = tensors[name]
      const destroy = buffer.destroy.bind(buffer)
      buffer.destroy = () => {
        destroyed.push(name)
        return destroy()
      }
    }
    const own = await createRuntime({ device: runtime.device })
    const attention = await own.use(scaledCopy(), config)
    await attention.run(tensors)
    await expect(attention.run({ ...tensors, k: permute(tensors.k, [0, 1, 3, 2]) })).rejects.toSatisfy(
      SparseAttentionError.is,
    )
    await expect(attention.run(tensors, { signal: AbortSignal.abort() })).rejects.toBeDefined()
    attention.dispose()
    own.dispose()
    expect(destroyed).toEqual([])
    expect(await read(tensors)).toEqual(expectedResult(1, 2))
    disposeAll(tensors)
  })
})
