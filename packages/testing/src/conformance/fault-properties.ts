import { type MethodOptions, type Runtime, type SparseAttention, SparseAttentionError } from '@sparse-attention/core'
import { type AllocationFailure, failAllocation } from '../fail-allocation.js'
import { trackBuffers } from '../track-buffers.js'
import { attend } from './attend.js'
import { cuttingRuntime } from './cutting-runtime.js'
import { expectSameBits, type Property, type PropertyContext, problem } from './properties.js'

/** What holds for every method when something goes wrong in the middle of a call. */
export function faultProperties<Options extends MethodOptions>(): Property<Options>[] {
  return [
    { name: 'whichever buffer there is no memory for, it is an error that leaves nothing', check: allocationFails },
    { name: 'an abort before any submit rejects with its reason and leaves nothing', check: aborts },
  ]
}

/** A small call of the method, on a runtime that cuts it into submits. */
async function smallCall<Options extends MethodOptions>(context: PropertyContext<Options>) {
  const { method } = context
  const runtime = await cuttingRuntime(context.runtime)
  const { config, ...given } = problem(context, { blocks: 1, queryHeads: 2, kvHeads: 1 })
  const extra = method.context ? { context: method.context(given.shape) } : {}
  return {
    runtime,
    given,
    extra,
    make: () => runtime.use(method.factory(), config),
    /** In a state of its own, for a method that carries one. */
    async call(attention: SparseAttention) {
      const state = method.factory.definition.capabilities.state ? attention.createState() : undefined
      try {
        return await attend(runtime, attention, { ...given, ...extra, ...(state && { state }) })
      } finally {
        state?.dispose()
      }
    },
  }
}

/** Nothing is left over from calls before: the next one asks for all of its memory. */
function emptyPools({ scratch, uniforms }: Runtime): void {
  scratch.trim()
  uniforms.dispose()
}

/** Five of 1 to `last`, from the first to the last. */
function places(last: number): number[] {
  return [...new Set([0, 1, 2, 3, 4].map((n) => 1 + Math.round((n * (last - 1)) / 4)))]
}

async function allocationFails<Options extends MethodOptions>(context: PropertyContext<Options>): Promise<void> {
  const { runtime, make, call } = await smallCall(context)
  const { device } = runtime
  emptyPools(runtime)
  const counting = failAllocation(device, 0, 'thrown')
  const first = await make()
  const expected = await call(first)
  first.dispose()
  counting.dispose()
  const { asked } = counting
  emptyPools(runtime)
  using buffers = trackBuffers(device)

  const check = async (at: number, how: AllocationFailure): Promise<void> => {
    const what = `the ${at}th buffer, whose lack is ${how},`
    let attention: SparseAttention | undefined
    let broken = false
    let failed: boolean
    {
      using failing = failAllocation(device, at, how)
      const outcome = await (async () => {
        attention = await make()
        broken = failing.failed
        return await call(attention)
      })().catch((error: unknown) => error)
      failed = failing.failed
      const refused = SparseAttentionError.is(outcome) && outcome.code === 'OUT_OF_MEMORY'
      if (failed && !refused) throw new Error(`${what} ends in ${outcome instanceof Error ? outcome : 'no error'}`)
      if (!failed && outcome instanceof Error) throw outcome
    }
    if (failed && broken) {
      // What it was made with is missing: it cannot be used.
      attention?.dispose()
      attention = undefined
    }
    // Memory that is refused at once has no part in what comes after.
    if (how === 'reported') {
      attention ??= await make()
      expectSameBits(await call(attention), expected, `the call after ${what}`)
    }
    attention?.dispose()
    emptyPools(runtime)
    if (buffers.live > 0)
      throw new Error(
        `${what} left ${buffers.live} buffers of ${buffers.liveBytes} bytes: ${buffers.labels.join(', ')}`,
      )
    if (!failed) throw new Error(`${what} was not asked for`)
  }
  for (let at = 1; at <= asked; at++) await check(at, 'thrown')
  for (const at of context.long ? Array.from({ length: asked }, (_, n) => n + 1) : places(asked))
    await check(at, 'reported')
}

/** Lets a signal abort just before the `at`-th submit from now on, counted from 1. */
function abortAt(
  device: GPUDevice,
  at: number,
): Disposable & { readonly signal: AbortSignal; readonly submits: number } {
  const controller = new AbortController()
  const { queue } = device
  const { submit } = queue
  let submits = 0
  queue.submit = (commands) => {
    if (++submits === at) controller.abort(new Error(`stopped at submit ${at}`))
    return submit.call(queue, commands)
  }
  return {
    signal: controller.signal,
    get submits() {
      return submits
    },
    [Symbol.dispose]: () => Object.assign(queue, { submit }),
  }
}

async function aborts<Options extends MethodOptions>(context: PropertyContext<Options>): Promise<void> {
  const { runtime, make, given, extra } = await smallCall(context)
  const { device } = runtime
  const { dtype, shape, inputs } = given
  const { batch, queryHeads, kvHeads, queryLength, keyLength, headDim } = shape
  using q = runtime.tensor(dtype, [batch, queryHeads, queryLength, headDim], Float32Array.from(inputs.q))
  using k = runtime.tensor(dtype, [batch, kvHeads, keyLength, headDim], Float32Array.from(inputs.k))
  using v = runtime.tensor(dtype, [batch, kvHeads, keyLength, headDim], Float32Array.from(inputs.v))
  using attention = await make()
  /** What a call gives, and its submits; undefined when it was stopped, as it should be. */
  const run = async (at = 0, before?: AbortSignal) => {
    using stop = abortAt(device, at)
    const signal = before ?? stop.signal
    const call = attention.run({ q, k, v, ...extra }, { signal })
    const result = await call.catch((error: unknown) => {
      if (signal.aborted && error === signal.reason) return undefined
      throw error
    })
    const { submits } = stop
    if (at > 0 && submits > at) throw new Error(`stopped at submit ${at}, it went on to ${submits}`)
    if (!result) return undefined
    const [out, lse] = [await runtime.read(result.out), await runtime.read(result.lse)]
    result.out.buffer.destroy()
    result.lse.buffer.destroy()
    attention.reset()
    return { out, lse, submits }
  }
  const expected = (await run())!
  const { submits } = expected
  await run()
  using buffers = trackBuffers(device)
  const scratch = runtime.scratch.allocatedBytes
  if (await run(0, AbortSignal.abort(new Error('before'))))
    throw new Error('a call that was stopped before it began ran')
  for (let at = 1; at <= submits; at++) {
    const stopped = (await run(at)) === undefined
    if (!stopped && at < submits) throw new Error(`stopped at submit ${at} of ${submits}, the call resolves`)
    const after = (await run())!
    for (const field of ['out', 'lse'] as const) {
      if (after[field].every((x, i) => Object.is(x, expected[field][i]))) continue
      throw new Error(`after a call that was stopped at submit ${at}, ${field} is another`)
    }
  }
  if (buffers.live > 0) throw new Error(`calls that were stopped left ${buffers.live} buffers`)
  if (runtime.scratch.allocatedBytes !== scratch) throw new Error('calls that were stopped took scratch')
}
