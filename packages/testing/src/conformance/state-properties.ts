import type { AttentionContext, AttentionState, MethodOptions, SparseAttention } from '@sparse-attention/core'
import { trackBuffers } from '../track-buffers.js'
import { type Attended, attend, withAttention } from './attend.js'
import { expectSameBits, type Problem, type Property, type PropertyContext, problem } from './properties.js'

/** What holds for every method that carries state. */
export function stateProperties<Options extends MethodOptions>(): Property<Options>[] {
  return [
    { name: 'videos, branches and layers do not change each other', check: apart },
    { name: 'a state that is reset, or had another shape before, is as a new one', check: asNew },
    { name: 'calls of one shape leave the size of a state as it is', check: constantState },
  ]
}

/** Three calls with different inputs: what a state holds after one decides what the next one does. */
const steps = 3

interface Caller {
  readonly attention: SparseAttention
  /** The call of a step. */
  call(step: number, more?: { state?: AttentionState; context?: AttentionContext; given?: Problem }): Promise<Attended>
  /** All steps in a state that is new, or is given. */
  video(given?: Problem, state?: AttentionState): Promise<Attended[]>
}

async function withCaller<Options extends MethodOptions>(
  context: PropertyContext<Options>,
  given: Problem,
  use: (caller: Caller) => Promise<void>,
): Promise<void> {
  const { runtime, method } = context
  await withAttention(runtime, method.factory, {}, given.config, async (attention) => {
    const call: Caller['call'] = (step, { state, context: more = {}, given: other = given } = {}) => {
      const { dtype, shape, inputs } = other
      const { q, k, v } = inputs
      // Step by step queries grow, so that scores do.
      const scaled = { q: q.map((x) => x * 2 ** step), k, v }
      return attend(runtime, attention, {
        ...{ dtype, shape, inputs: scaled, ...(state && { state }) },
        context: { ...method.context?.(shape), step: step + 1, steps: steps + 2, ...more },
      })
    }
    const video: Caller['video'] = async (other = given, kept) => {
      const state = kept ?? attention.createState()
      const results: Attended[] = []
      for (let step = 0; step < steps; step++) results.push(await call(step, { state, given: other }))
      if (!kept) state.dispose()
      return results
    }
    await use({ attention, call, video })
  })
}

async function apart<Options extends MethodOptions>(context: PropertyContext<Options>): Promise<void> {
  await withCaller(context, problem(context, { kind: 'stripes' }), async ({ attention, call, video }) => {
    const alone = await video()
    using first = attention.createState()
    using second = attention.createState()
    const others = [
      { what: 'another video', state: second, context: {} },
      { what: 'another branch', state: first, context: { branch: 'unconditional' } },
      { what: 'another layer', state: first, context: { layer: 3 } },
      { what: 'another sequence', state: first, context: { sequence: 'other' } },
    ] as const
    for (let step = 0; step < steps; step++) {
      expectSameBits(await call(step, { state: first }), alone[step]!, `step ${step} beside others`)
      for (const { what, ...more } of others) {
        expectSameBits(await call(step, more), alone[step]!, `step ${step} of ${what}`)
      }
    }
  })
}

async function asNew<Options extends MethodOptions>(context: PropertyContext<Options>): Promise<void> {
  const other = problem(context, { blocks: 2, batch: 2 })
  await withCaller(context, problem(context, { kind: 'stripes' }), async ({ attention, call, video }) => {
    const expected = await video()
    using state = attention.createState()
    const again = async (what: string) => {
      for (const [step, result] of (await video(undefined, state)).entries()) {
        expectSameBits(result, expected[step]!, `step ${step} ${what}`)
      }
    }
    await again('of a new state')
    state.reset()
    await again('after reset')
    await video(other, state)
    await again('after another shape')
    // Without a state, the attention's own reset begins a video.
    for (let pass = 0; pass < 2; pass++) {
      for (let step = 0; step < steps; step++) {
        expectSameBits(await call(step), expected[step]!, `step ${step} of the attention's own state, video ${pass}`)
      }
      attention.reset()
    }
  })
}

async function constantState<Options extends MethodOptions>(context: PropertyContext<Options>): Promise<void> {
  await withCaller(context, problem(context, { blocks: 1 }), async ({ attention, video }) => {
    using buffers = trackBuffers(context.runtime.device)
    const state = attention.createState()
    if (state.sizeBytes !== 0) throw new Error(`a state that nothing was called with holds ${state.sizeBytes} bytes`)
    await video(undefined, state)
    const [size, live] = [state.sizeBytes, buffers.live]
    for (let n = 0; n < 3; n++) {
      await video(undefined, state)
      state.reset()
    }
    await video(undefined, state)
    if (state.sizeBytes !== size) throw new Error(`the state went from ${size} to ${state.sizeBytes} bytes`)
    if (buffers.live !== live) throw new Error(`calls of one shape took buffers from ${live} to ${buffers.live}`)
    if (buffers.liveBytes < size) throw new Error(`the state says ${size} bytes, buffers have ${buffers.liveBytes}`)
    state.dispose()
    if (state.sizeBytes !== 0) throw new Error(`a disposed state holds ${state.sizeBytes} bytes`)
  })
}
