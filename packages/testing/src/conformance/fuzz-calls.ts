import {
  type AttentionState,
  type MethodOptions,
  type OwnedTensor,
  type Plan,
  type RunResult,
  type Runtime,
  type SparseAttention,
  SparseAttentionError,
} from '@sparse-attention/core'
import fc from 'fast-check'
import { assertAtRandom, type FuzzOptions } from './assert-at-random.js'
import type { MethodUnderTest } from './check-case.js'
import { type Problem, problem } from './properties.js'

/** One thing that a program may do with an attention. `input` and `state` are numbers of them. */
type Call =
  | { readonly do: 'run' | 'encode' | 'abort'; readonly input: number; readonly state: number }
  | { readonly do: 'run with the plan kept'; readonly input: number; readonly state: number }
  | { readonly do: 'two at once'; readonly input: number; readonly state: number }
  | { readonly do: 'reset' | 'make anew' | 'dispose of the state'; readonly state: number }
  | { readonly do: 'keep the plan' | 'read a stale plan' | 'refuse wrong tensors' }

const inputs = 3
const states = 2

/**
 * Calls at random on one attention, against a model of it: what a call gives depends on its input and on the calls in its state since
 * that was reset, on nothing else. So equal histories give equal bits, whatever else was called meanwhile; a call that is stopped
 * resets its state; what was disposed of, and plans that are stale, are refused.
 */
export async function fuzzCalls<Options extends MethodOptions>(
  runtime: Runtime,
  method: MethodUnderTest<Options>,
  block: { readonly q: number; readonly k: number },
  fuzz: FuzzOptions,
): Promise<void> {
  const carries = method.factory.definition.capabilities.state === true
  /** What every history gave. It outlives the sequence of calls in which it was met first. */
  const known = new Map<string, Float32Array>()
  const check = async (calls: readonly Call[]): Promise<void> => {
    using session = await Session.start(runtime, method, block, known, carries)
    for (const [n, call] of calls.entries()) {
      try {
        await session.call(call)
      } catch (error) {
        throw new Error(`call ${n}, ${JSON.stringify(call)}`, { cause: error })
      }
    }
  }
  const place = { input: fc.nat(inputs - 1), state: fc.integer({ min: -1, max: carries ? states - 1 : -1 }) }
  const calls = fc.array(
    fc.oneof(
      fc.record({ do: fc.constantFrom('run' as const, 'encode' as const, 'abort' as const), ...place }),
      fc.record({ do: fc.constantFrom('run with the plan kept' as const, 'two at once' as const), ...place }),
      fc.record({
        do: fc.constantFrom('keep the plan' as const, 'read a stale plan' as const, 'refuse wrong tensors' as const),
      }),
      fc.record({
        do: fc.constantFrom('reset' as const, 'make anew' as const, 'dispose of the state' as const),
        state: place.state,
      }),
    ),
    { minLength: 8, maxLength: fuzz.seconds === undefined ? 12 : 40, size: 'max' },
  )
  await assertAtRandom(calls as fc.Arbitrary<Call[]>, check, fuzz, 1)
}

type Tensors = Readonly<Record<'q' | 'k' | 'v', OwnedTensor>> & { readonly context?: object }

class Session implements Disposable {
  readonly #owned: OwnedTensor[] = []
  readonly #states = new Map<number, AttentionState | undefined>()
  readonly #histories = new Map<number, string>()
  #attention: SparseAttention
  #latest: { readonly plan: Plan; readonly input: number } | undefined
  #stale: Plan | undefined
  #kept: { readonly plan: Plan; readonly input: number } | undefined

  private constructor(
    private readonly runtime: Runtime,
    attention: SparseAttention,
    private readonly make: () => Promise<SparseAttention>,
    private readonly tensors: readonly Tensors[],
    private readonly known: Map<string, Float32Array>,
    private readonly carries: boolean,
  ) {
    this.#attention = attention
  }

  static async start<Options extends MethodOptions>(
    runtime: Runtime,
    method: MethodUnderTest<Options>,
    block: { readonly q: number; readonly k: number },
    known: Map<string, Float32Array>,
    carries: boolean,
  ): Promise<Session> {
    const given: Problem[] = [
      problem({ runtime, method, block }, { blocks: 1, queryHeads: 2, kvHeads: 1 }),
      problem({ runtime, method, block }, { blocks: 2, queryHeads: 2, kvHeads: 1, kind: 'stripes' }),
      problem({ runtime, method, block }, { blocks: 1, queryHeads: 2, kvHeads: 1, batch: 2, kind: 'needle' }),
    ]
    const tensors = given.map(({ dtype, shape, inputs: { q, k, v } }): Tensors => {
      const { batch, queryHeads, kvHeads, queryLength, keyLength, headDim } = shape
      const upload = (x: Float64Array, heads: number, length: number) =>
        runtime.tensor(dtype, [batch, heads, length, headDim], Float32Array.from(x))
      const context = method.context?.(shape)
      return {
        q: upload(q, queryHeads, queryLength),
        k: upload(k, kvHeads, keyLength),
        v: upload(v, kvHeads, keyLength),
        ...(context && { context }),
      }
    })
    const make = () => runtime.use(method.factory(), given[0]!.config)
    const session = new Session(runtime, await make(), make, tensors, known, carries)
    for (const { q, k, v } of tensors) session.#owned.push(q, k, v)
    return session
  }

  async call(call: Call): Promise<void> {
    switch (call.do) {
      case 'run':
        return this.#check(call, await this.#attention.run(this.#given(call)))
      case 'two at once': {
        const other = { ...call, input: (call.input + 1) % inputs }
        const both = [this.#attention.run(this.#given(call)), this.#attention.run(this.#given(other))]
        const [first, second] = await Promise.all(both)
        this.#latest = undefined
        await this.#check(call, first!, 'overwritten')
        return this.#check(other, second!)
      }
      case 'encode': {
        const { q } = this.tensors[call.input]!
        const out = this.runtime.tensor(q.dtype, q.shape)
        const lse = this.runtime.tensor('f32', q.shape.slice(0, 3))
        const encoder = this.runtime.device.createCommandEncoder()
        const plan = this.#attention.encode(encoder, { ...this.#given(call), out, lse })
        this.runtime.device.queue.submit([encoder.finish()])
        return this.#check(call, { out, lse, plan })
      }
      case 'abort': {
        const reason = new Error('stopped')
        const stopped = this.#attention.run(this.#given(call), { signal: AbortSignal.abort(reason) })
        const error = await stopped.catch((thrown: unknown) => thrown)
        if (error !== reason) throw new Error(`a call that was stopped gives ${error}`)
        return
      }
      case 'run with the plan kept': {
        if (this.#kept?.input !== call.input) return
        const result = await this.#attention.run(this.#given(call), { plan: this.#kept.plan })
        // What it remembers of a call that did not plan is the method's own affair.
        await this.#check({ ...call, state: -2 }, result, 'given', 'the plan kept')
        this.#forget(call.state)
        return
      }
      case 'keep the plan':
        if (!this.#latest) return
        this.#kept?.plan.dispose()
        this.#kept = { plan: this.#latest.plan.clone(), input: this.#latest.input }
        return
      case 'read a stale plan':
        if (this.#stale) await refused('STALE_PLAN', this.#stale.read())
        return
      case 'refuse wrong tensors': {
        const { q, k, v } = this.tensors[0]!
        const wrong = { ...q, shape: [...q.shape.slice(0, 3), q.shape[3]! + 1] }
        await refused(undefined, this.#attention.run({ q: wrong, k, v }))
        return
      }
      case 'reset':
        this.#forget(call.state)
        return
      case 'dispose of the state': {
        const state = this.#states.get(call.state)
        // The attention's own is not disposed of.
        if (!state) return
        state.dispose()
        state.dispose()
        await refused('DISPOSED', this.#attention.run({ ...this.#given({ input: 0, state: call.state }) }))
        this.#states.delete(call.state)
        this.#histories.delete(call.state)
        return
      }
      case 'make anew': {
        const old = this.#attention
        this.#attention = await this.make()
        old.dispose()
        await refused('DISPOSED', old.run(this.tensors[0]!))
        this.#stale = this.#latest?.plan
        this.#latest = undefined
        for (const state of this.#states.values()) state?.dispose()
        this.#states.clear()
        this.#histories.clear()
        if (this.#stale) await refused('STALE_PLAN', this.#stale.stats())
      }
    }
  }

  #forget(state: number): void {
    this.#histories.delete(state)
    if (state < 0) this.#attention.reset()
    else this.#states.get(state)?.reset()
  }

  #given({ input, state }: { readonly input: number; readonly state: number }) {
    const tensors = this.tensors[input]!
    if (!this.carries || state < 0) return tensors
    const made = this.#states.get(state) ?? this.#attention.createState()
    this.#states.set(state, made)
    return { ...tensors, state: made }
  }

  /** What a call of this history gave before, it gives again. */
  async #check(
    { input, state }: { readonly input: number; readonly state: number },
    { out, lse, plan }: RunResult,
    made: 'current' | 'overwritten' | 'given' = 'current',
    note = '',
  ): Promise<void> {
    const history = `${this.carries ? (this.#histories.get(state) ?? '') : ''} ${input}${note}`
    if (state >= -1) this.#histories.set(state, history)
    if (made !== 'given') {
      if (this.#latest) this.#stale = this.#latest.plan
      this.#latest = made === 'current' ? { plan, input } : undefined
    }
    const given = Float32Array.from([...(await this.runtime.read(out)), ...(await this.runtime.read(lse))])
    out.buffer.destroy()
    lse.buffer.destroy()
    // A plan that was kept comes from the same history only by chance.
    if (note && this.carries) return
    const before = this.known.get(history)
    if (!before) this.known.set(history, given)
    else if (given.some((x, i) => !Object.is(x, before[i]))) {
      throw new Error(`after the calls [${history} ] the result is another than at first`)
    }
  }

  [Symbol.dispose](): void {
    this.#kept?.plan.dispose()
    for (const state of this.#states.values()) state?.dispose()
    this.#attention.dispose()
    for (const tensor of this.#owned) tensor.dispose()
  }
}

async function refused(code: string | undefined, call: Promise<unknown>): Promise<void> {
  const error = await call.then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  if (SparseAttentionError.is(error) && (code === undefined || error.code === code)) return
  throw new Error(`expected ${code ?? 'a typed error'}, got ${error ?? 'no error'}`)
}
