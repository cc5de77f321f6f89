import { isMissing, noMemory } from './allocate.js'
import type { ScratchLease } from './arena.js'
import { type Dispatch, recordDispatches } from './dispatch.js'
import { SparseAttentionError } from './errors.js'
import { guarded } from './gpu-errors.js'
import type {
  AttentionFrame,
  AttentionInput,
  AttentionShape,
  CompiledConfig,
  ConfiguredMethod,
  MethodOptions,
  MethodProgram,
  UseConfig,
} from './method.js'
import { permutationOf } from './plan.js'
import { createPlan, type Plan, PlanMemory } from './plan-view.js'
import type { Runtime } from './runtime.js'
import { type AttentionState, OwnedState } from './state.js'
import type { DType, OwnedTensor, Tensor } from './tensor.js'
import { contiguousKeys, isPaged, resolveConfig, validateCache, validateTensors } from './validate-attention.js'

export interface RunOptions {
  /** Stops between submits; the call rejects with the signal's reason and what it allocated is freed. */
  readonly signal?: AbortSignal
  /** Attend over this plan instead of making one. It must come from this runtime and fit the tensors. */
  readonly plan?: Plan
}

export interface RunResult {
  /** [B, Hq, Lq, D]: the caller's `out`, or a new tensor that the caller owns. */
  readonly out: Tensor | OwnedTensor
  /** [B, Hq, Lq] f32: the caller's `lse`, or a new tensor that the caller owns. */
  readonly lse: Tensor | OwnedTensor
  /** Valid until this attention's next call. */
  readonly plan: Plan
}

/** A compiled method. Made by `runtime.use`. */
export interface SparseAttention extends Disposable {
  readonly id: string
  readonly config: CompiledConfig
  /**
   * Records planning and attention into the caller's encoder, and nothing else: no submit, no read-back.
   * Submit encoders in the order of recording: scratch is shared between calls. Where one submit would run into a
   * watchdog, use `encodeParts`.
   *
   * @throws INVALID_ARGUMENT when `out` is missing, BUSY while a `run` is under way, and as `run`
   */
  encode(encoder: GPUCommandEncoder, tensors: AttentionInput, options?: Pick<RunOptions, 'plan'>): Plan
  /**
   * The same in pieces, each small enough for a submit of its own. Record and submit all of them, in order.
   */
  encodeParts(
    tensors: AttentionInput,
    options?: Pick<RunOptions, 'plan'>,
  ): { readonly plan: Plan; readonly parts: readonly ((encoder: GPUCommandEncoder) => void)[] }
  /**
   * Plans and attends. Resolves after the last submit, without waiting for the GPU and without reading back.
   *
   * @throws INVALID_SHAPE, INVALID_DTYPE, INVALID_VIEW, BUFFER_TOO_SMALL, INVALID_ARGUMENT, UNSUPPORTED,
   *   LIMIT_EXCEEDED, STALE_PLAN, WRONG_RUNTIME, DISPOSED before any GPU work
   * @throws OUT_OF_MEMORY, DEVICE_LOST
   */
  run(tensors: AttentionInput, options?: RunOptions): Promise<RunResult>
  /**
   * A state for one video, to be given with each of its calls. Owned by the caller.
   *
   * @throws UNSUPPORTED for a method that carries none, DISPOSED
   */
  createState(): AttentionState
  /** Forgets what calls without a `state` have carried, and what the method itself keeps. */
  reset(): void
  /** Frees the plan, the state of calls without one, and what the method holds. May be called twice. */
  dispose(): void
}

/** @internal `runtime.use` */
export async function createAttention<Options extends MethodOptions>(
  runtime: Runtime,
  { method, options }: ConfiguredMethod<Options>,
  given: UseConfig,
): Promise<SparseAttention> {
  const config = resolveConfig(method.id, method.capabilities, given)
  const program = await method.create(runtime, config, options)
  const { id, capabilities } = method
  return new CompiledAttention(runtime, id, config, program, capabilities.state === true, (tensors) => {
    if (!('cache' in tensors)) return validateTensors(id, capabilities, config, tensors, runtime.device.limits)
    return validateCache(runtime, id, capabilities, config, tensors)
  })
}

class CompiledAttention implements SparseAttention {
  readonly #memory: PlanMemory
  /** Runs of one attention share its plan memory, so each waits until the one before has submitted everything. */
  #lastRun: Promise<unknown> = Promise.resolve()
  #running = 0
  #disposed = false
  /** Of calls that give none. */
  #ownState: OwnedState | undefined

  constructor(
    private readonly runtime: Runtime,
    readonly id: string,
    readonly config: CompiledConfig,
    private readonly program: MethodProgram,
    private readonly carriesState: boolean,
    private readonly validate: (tensors: AttentionInput) => AttentionShape,
  ) {
    this.#memory = new PlanMemory(runtime)
  }

  encode(encoder: GPUCommandEncoder, tensors: AttentionInput, options: Pick<RunOptions, 'plan'> = {}): Plan {
    const { plan, parts } = this.encodeParts(tensors, options)
    for (const part of parts) part(encoder)
    return plan
  }

  encodeParts(
    tensors: AttentionInput,
    options: Pick<RunOptions, 'plan'> = {},
  ): ReturnType<SparseAttention['encodeParts']> {
    this.#assertUsable()
    if (this.#running > 0) {
      throw new SparseAttentionError('BUSY', {
        message: `This ${this.id} attention has a run under way, whose plan the recording would overwrite.`,
        fix: 'Await the run first, or make a second attention.',
        where: this.id,
      })
    }
    const scratch = this.runtime.scratch.lease({ submitted: false })
    try {
      const { plan, parts } = this.#record(tensors, options.plan, scratch)
      const recorders = parts.map((part, index) => (encoder: GPUCommandEncoder) => {
        recordDispatches(this.runtime.device, encoder, part)
        if (index === parts.length - 1) scratch.release()
      })
      return { plan, parts: recorders }
    } catch (error) {
      scratch.release()
      throw error
    }
  }

  run(tensors: AttentionInput, options: RunOptions = {}): Promise<RunResult> {
    this.#running++
    const result = this.#lastRun.then(() => this.#run(tensors, options))
    this.#lastRun = result.then(
      () => this.#running--,
      () => this.#running--,
    )
    return result
  }

  async #run(tensors: AttentionInput, { signal, plan: given }: RunOptions): Promise<RunResult> {
    signal?.throwIfAborted()
    this.#assertUsable()
    const { queryHeads, queryLength, batch, headDim } = this.validate(tensors)
    const made: OwnedTensor[] = []
    const make = (dtype: DType, shape: number[]) => {
      const tensor = this.runtime.tensor(dtype, shape)
      made.push(tensor)
      return tensor
    }
    const scratch = this.runtime.scratch.lease({ submitted: true })
    let recorded: Dispatch[][] | undefined
    try {
      const call = guarded(this.runtime, () => {
        const out = tensors.out ?? make(this.config.dtype, [batch, queryHeads, queryLength, headDim])
        const lse = tensors.lse ?? make('f32', [batch, queryHeads, queryLength])
        return { out, lse, ...this.#record({ ...tensors, out, lse }, given, scratch) }
      })
      const { out, lse, plan, parts } = call.value
      recorded = parts
      const checks = [call.check, ...(await this.#submit(parts, signal))]
      await Promise.all(checks)
      return { out, lse, plan }
    } catch (error) {
      for (const tensor of made) tensor.dispose()
      // Parts of the call may not have run: what the state holds now is not known.
      if (recorded) (tensors.state ?? this.#ownState)?.reset()
      const missing = isRefusal(error) && missingBuffer(recorded ?? [])
      throw missing ? noMemory(missing, error) : error
    } finally {
      scratch.release()
    }
  }

  createState(): AttentionState {
    this.#assertUsable()
    return this.#makeState()
  }

  reset(): void {
    this.#ownState?.reset()
    this.program.reset?.()
  }

  dispose(): void {
    if (this.#disposed) return
    this.#disposed = true
    this.#memory.dispose()
    this.#ownState?.dispose()
    this.program.dispose()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }

  #assertUsable(): void {
    this.runtime.assertUsable()
    if (this.#disposed) {
      throw new SparseAttentionError('DISPOSED', {
        message: `This ${this.id} attention is disposed.`,
        fix: 'Make a new one with runtime.use.',
        where: this.id,
      })
    }
  }

  #makeState(): OwnedState {
    if (!this.carriesState || !this.program.createState) {
      throw new SparseAttentionError('UNSUPPORTED', {
        message: `${this.id} carries no state from call to call.`,
        fix: 'Leave state out, or use a method whose capabilities have state.',
        where: 'state',
      })
    }
    return new OwnedState(this, this.program.createState())
  }

  /** The state of a call: given, or the attention's own. Absent for methods without. */
  #stateOf({ state }: AttentionInput): OwnedState | undefined {
    if (state === undefined) {
      if (!this.carriesState) return undefined
      this.#ownState ??= this.#makeState()
      return this.#ownState
    }
    if (!this.carriesState) return this.#makeState() // throws
    if (!(state instanceof OwnedState) || state.owner !== this) {
      throw new SparseAttentionError('INVALID_ARGUMENT', {
        message: `The state was not made by this ${this.id} attention.`,
        fix: 'Make it with createState of the attention that is called.',
        where: 'state',
      })
    }
    if (state.disposed) {
      throw new SparseAttentionError('DISPOSED', {
        message: 'The state is disposed.',
        fix: 'Make a new one with createState.',
        where: 'state',
      })
    }
    return state
  }

  #record(
    tensors: AttentionInput,
    given: Plan | undefined,
    scratch: ScratchLease,
  ): { plan: Plan; parts: Dispatch[][] } {
    const shape = this.validate(tensors)
    const { q, out } = tensors
    if (!out) {
      throw new SparseAttentionError('INVALID_ARGUMENT', {
        message: 'encode needs out: it cannot make buffers that a caller would own.',
        fix: 'Pass out: runtime.tensor(dtype, [batch, queryHeads, queryLength, headDim]), or use run.',
        where: 'out',
      })
    }
    const state = this.#stateOf(tensors)
    const { dispatches: before, ...keys } = keysOf(tensors)
    const frame: AttentionFrame = {
      ...shape,
      ...keys,
      q,
      out,
      lse: tensors.lse ?? scratchLse(scratch, shape),
      causal: this.config.causal,
      scale: this.config.scale,
      context: tensors.context ?? {},
      ...(state && { state: state.method }),
      scratch: (sizeBytes) => scratch.allocate(sizeBytes),
      planBuffer: (sizeBytes) => this.#memory.allocate(sizeBytes),
    }
    try {
      return this.#dispatch(frame, before, given, shape)
    } catch (error) {
      // What was to be written into it will not be.
      state?.reset()
      throw error
    }
  }

  #dispatch(
    frame: AttentionFrame,
    before: readonly Dispatch[],
    given: Plan | undefined,
    shape: AttentionShape,
  ): { plan: Plan; parts: Dispatch[][] } {
    const { operationsPerSubmit } = this.runtime.work
    if (given) {
      const data = given.dataFor(this.runtime, shape, this.config.causal)
      if (permutationOf(data) && !this.program.permutedPlans) {
        throw new SparseAttentionError('UNSUPPORTED', {
          message: `The plan is of permuted tokens, which ${this.id} does not attend over.`,
          fix: 'Use a method that makes such plans.',
          where: 'plan',
        })
      }
      return { plan: given, parts: cut([...before, ...this.program.attend(frame, data)], operationsPerSubmit) }
    }
    this.#memory.nextGeneration()
    const planned = this.program.plan(frame)
    const plan = createPlan(this.runtime, this.id, planned.plan, shape, this.config.causal, this.#memory)
    const dispatches = [...before, ...planned.dispatches, ...this.program.attend(frame, planned.plan)]
    return { plan, parts: cut(dispatches, operationsPerSubmit) }
  }

  /** Keeps two submits in flight, so that an abort takes effect soon and the queue never runs dry. */
  async #submit(parts: readonly (readonly Dispatch[])[], signal: AbortSignal | undefined): Promise<Promise<void>[]> {
    const { device } = this.runtime
    const checks: Promise<void>[] = []
    let previous: Promise<unknown> | undefined
    for (const [index, part] of parts.entries()) {
      signal?.throwIfAborted()
      this.#assertUsable()
      const submitted = guarded(this.runtime, () => {
        const encoder = device.createCommandEncoder({ label: this.id })
        recordDispatches(device, encoder, part)
        device.queue.submit([encoder.finish()])
      })
      checks.push(submitted.check)
      if (index === parts.length - 1) break
      if (previous) await this.runtime.whileAlive(previous)
      previous = device.queue.onSubmittedWorkDone()
    }
    return checks
  }
}

/** Keys and values of a call, from wherever they come. Checked before. */
function keysOf(tensors: AttentionInput): Pick<AttentionFrame, 'k' | 'v' | 'pages'> & {
  dispatches: readonly Dispatch[]
} {
  if (!('cache' in tensors)) return { k: tensors.k, v: tensors.v, dispatches: [] }
  const { cache } = tensors
  if (isPaged(cache)) return cache.view()
  const { k, v } = contiguousKeys(cache)
  return { k, v, dispatches: [] }
}

/** What the GPU refuses may be refused because a buffer is not there. */
function missingBuffer(parts: readonly (readonly Dispatch[])[]): GPUBuffer | undefined {
  for (const { bindings, workgroups } of parts.flat()) {
    const bound = 'indirect' in workgroups ? [...bindings, workgroups.indirect] : bindings
    const missing = bound.find(({ buffer }) => isMissing(buffer))
    if (missing) return missing.buffer
  }
  return undefined
}

function isRefusal(error: unknown): boolean {
  return SparseAttentionError.is(error) && error.code === 'INVALID_ARGUMENT'
}

function scratchLse(scratch: ScratchLease, shape: AttentionShape): Tensor {
  const { batch, queryHeads, queryLength } = shape
  return {
    buffer: scratch.allocate(batch * queryHeads * queryLength * 4).buffer,
    dtype: 'f32',
    shape: [batch, queryHeads, queryLength],
    strides: [queryHeads * queryLength, queryLength, 1],
    offset: 0,
  }
}

function cut(dispatches: readonly Dispatch[], operationsPerSubmit: number): Dispatch[][] {
  const parts: Dispatch[][] = [[]]
  let operations = 0
  for (const dispatch of dispatches) {
    const part = parts[parts.length - 1]!
    if (part.length > 0 && operations + dispatch.cost.operations > operationsPerSubmit) {
      parts.push([dispatch])
      operations = dispatch.cost.operations
    } else {
      part.push(dispatch)
      operations += dispatch.cost.operations
    }
  }
  return parts
}
