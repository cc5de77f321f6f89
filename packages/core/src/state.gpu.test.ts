import {
  type AllocateState,
  type AttentionConfig,
  type AttentionContext,
  type AttentionState,
  createRuntime,
  defineMethod,
  type MethodFactory,
  type MethodOptions,
  type Runtime,
  type SparseAttention,
  StateEntries,
} from '@sparse-attention/core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { ErrorCode } from './errors.js'
import { config, disposeAll, makeTensors, scaledCopy, watch } from './test-support.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

const refusal = (code: ErrorCode) => expect.objectContaining({ code, where: 'state' })

interface Options extends MethodOptions {
  readonly fail: number
  readonly twice: number
}

/** Every element of lse is the number of calls that the entry has had. */
const countCalls: MethodFactory<Options> = defineMethod<Options>({
  ...scaledCopy.definition,
  id: 'count-calls',
  options: {
    fail: { type: 'number', default: 0, description: '1: recording fails for steps above 0.' },
    twice: { type: 'number', default: 0, description: '1: a second dispatch does nothing.' },
  },
  capabilities: { ...scaledCopy.definition.capabilities, state: true },
  async create(runtime, _config, { fail, twice }) {
    const kernel = await runtime.kernel({
      label: 'count-calls',
      code: `
        @group(0) @binding(0) var<uniform> u: vec4u; // count of lse, fresh, calls to count
        @group(0) @binding(1) var<storage, read_write> calls: array<u32>;
        @group(0) @binding(2) var<storage, read_write> lse: array<f32>;
        @compute @workgroup_size(1) fn main() {
          calls[0] = select(calls[0], 0u, u.y == 1u) + u.z;
          for (var i = 0u; i < u.x; i++) { lse[i] = f32(calls[0]); }
        }`,
      bindings: ['uniform', 'read_write', 'read_write'],
      workgroupSize: 1,
      workgroupBytes: 0,
    })
    return {
      createState: () => new StateEntries<ReturnType<typeof make>>(runtime),
      plan: () => ({ plan: { kind: 'dense' }, dispatches: [] }),
      attend(frame) {
        const { entry, fresh } = (frame.state as StateEntries<ReturnType<typeof make>>).entry(frame, make)
        if (fail === 1 && (frame.context.step ?? 0) > 0) throw new Error('planned')
        const count = frame.batch * frame.queryHeads * frame.queryLength
        const lse = { buffer: frame.lse.buffer, offsetBytes: 0, sizeBytes: frame.lse.buffer.size }
        const dispatch = (fresh: boolean, counted: number) => ({
          kernel,
          bindings: [runtime.uniforms.get(Uint32Array.of(count, Number(fresh), counted, 0)), entry.calls, lse],
          workgroups: [1, 1, 1] as const,
          cost: { operations: count, bytes: 4 * count },
        })
        return [dispatch(fresh, 1), ...(twice === 1 ? [dispatch(false, 0)] : [])]
      },
      dispose() {},
    }
  },
})

const make = (allocate: AllocateState) => ({ calls: allocate(1000) })

/** How many calls the entry of this call has had, this one included. */
async function calls(
  attention: SparseAttention,
  state?: AttentionState,
  context: AttentionContext = {},
  lengths: Parameters<typeof makeTensors>[2] = { batch: 1 },
): Promise<number> {
  const tensors = makeTensors(runtime, 1, lengths)
  const { out, lse } = await attention.run({ ...tensors, context, ...(state && { state }) })
  const [first] = await runtime.read(lse)
  disposeAll({ ...tensors, out, lse })
  return first!
}

const use = (given: AttentionConfig = config) => runtime.use(countCalls(), given)

describe('a state', () => {
  test('is carried from call to call, apart from other states and from the attention’s own', async () => {
    using attention = await use()
    using first = attention.createState()
    using second = attention.createState()
    expect([await calls(attention, first), await calls(attention, first), await calls(attention, second)]).toEqual([
      1, 2, 1,
    ])
    expect([await calls(attention), await calls(attention), await calls(attention, second)]).toEqual([1, 2, 2])
  })

  test('keeps layers, branches and sequences apart', async () => {
    using attention = await use()
    using state = attention.createState()
    const contexts: AttentionContext[] = [
      {},
      { layer: 1 },
      { branch: 'conditional' },
      { branch: 'unconditional' },
      { layer: 1, branch: 'conditional' },
      { sequence: 'a' },
    ]
    for (const count of [1, 2]) {
      for (const context of contexts) expect(await calls(attention, state, { ...context, step: count })).toBe(count)
    }
  })

  test('begins an entry anew when its shape or grid changes, in the memory it has', async () => {
    using attention = await use()
    using state = attention.createState()
    for (const n of [1, 2]) expect(await calls(attention, state, { grid: [2, 5] })).toBe(n)
    const held = state.sizeBytes
    expect(held).toBe(1008)
    expect(await calls(attention, state, { grid: [5, 2] })).toBe(1)
    expect(await calls(attention, state, { grid: [5, 2] }, { batch: 2 })).toBe(1)
    expect(await calls(attention, state, { grid: [5, 2] }, { batch: 2, queryLength: 9 })).toBe(1)
    expect(await calls(attention, state, { grid: [5, 2] }, { batch: 2, queryLength: 9 })).toBe(2)
    expect(state.sizeBytes).toBe(held)
  })

  test('reset makes the next call a first one and allocates nothing; the attention’s reset is that of its own state', async () => {
    using attention = await use()
    using state = attention.createState()
    await calls(attention, state)
    await calls(attention)
    using device = watch(runtime.device)
    const before = device.live()
    state.reset()
    expect(await calls(attention, state)).toBe(1)
    attention.reset()
    expect(await calls(attention, state)).toBe(2)
    expect(await calls(attention)).toBe(1)
    expect(device.live()).toBe(before)
  })

  test('a call that fails while it is recorded, or is aborted, leaves it as new', async () => {
    using attention = await runtime.use(countCalls({ fail: 1 }), config)
    using state = attention.createState()
    expect([await calls(attention, state), await calls(attention, state)]).toEqual([1, 2])
    await expect(calls(attention, state, { step: 1 })).rejects.toThrow('planned')
    expect([await calls(attention, state), await calls(attention, state)]).toEqual([1, 2])

    // Aborted before anything is recorded: as it was.
    const tensors = makeTensors(runtime, 1, { batch: 1 })
    await expect(attention.run({ ...tensors, state }, { signal: AbortSignal.abort() })).rejects.toThrow()
    expect(await calls(attention, state)).toBe(3)

    disposeAll(tensors)
  })

  test('a run that is aborted between submits leaves it as new', async () => {
    using cutting = await createRuntime({ device: runtime.device, work: { operationsPerSubmit: 1 } })
    using attention = await cutting.use(countCalls({ twice: 1 }), config)
    using state = attention.createState()
    expect([await calls(attention, state), await calls(attention, state)]).toEqual([1, 2])
    const tensors = makeTensors(runtime, 1, { batch: 1 })
    const stop = new AbortController()
    using device = watch(runtime.device)
    device.onSubmit = () => stop.abort()
    await expect(attention.run({ ...tensors, state }, { signal: stop.signal })).rejects.toThrow()
    disposeAll(tensors)
    device.onSubmit = () => {}
    expect(await calls(attention, state)).toBe(1)
  })

  test('frees its memory when it is disposed, and that of the attention’s own with the attention', async () => {
    using device = watch(runtime.device)
    const attention = await use()
    const state = attention.createState()
    await calls(attention, state)
    const held = device.live()
    await calls(attention)
    state.dispose()
    state.dispose()
    expect(state.sizeBytes).toBe(0)
    expect(device.live()).toBe(held)
    attention.dispose()
    expect(device.live()).toBe(held - 1)
    expect(() => attention.createState()).toThrow(expect.objectContaining({ code: 'DISPOSED' }))
  })

  test('of another attention, disposed of, or for a method that carries none is refused', async () => {
    using attention = await use()
    using other = await use()
    using plain = await runtime.use(scaledCopy(), config)
    using foreign = other.createState()
    await expect(calls(attention, foreign)).rejects.toEqual(refusal('INVALID_ARGUMENT'))
    await expect(calls(attention, { ...foreign } as AttentionState)).rejects.toEqual(refusal('INVALID_ARGUMENT'))
    await expect(calls(plain, foreign)).rejects.toEqual(refusal('UNSUPPORTED'))
    expect(() => plain.createState()).toThrow(refusal('UNSUPPORTED'))
    foreign.dispose()
    await expect(calls(other, foreign)).rejects.toEqual(refusal('DISPOSED'))
  })

  test('larger than a binding may be is refused, and the memory it had is reused', async () => {
    const state = new StateEntries<{ calls: unknown }>(runtime)
    const frame = { context: {}, batch: 1 } as never
    const limit = runtime.device.limits.maxStorageBufferBindingSize
    const tooLarge = () =>
      state.entry(frame, (allocate) => {
        allocate(64)
        return { calls: allocate(limit + 1) }
      })
    expect(tooLarge).toThrow(refusal('LIMIT_EXCEEDED'))
    expect(tooLarge).toThrow(refusal('LIMIT_EXCEEDED'))
    expect(state.sizeBytes).toBe(64)
    expect(state.entry(frame, (allocate) => ({ calls: allocate(60) })).fresh).toBe(true)
    expect(state.sizeBytes).toBe(64)
    state.dispose()
    expect(state.sizeBytes).toBe(0)
  })
})
