import { type AttentionContext, type Runtime, relativeError, SparseAttentionError } from '@sparse-attention/core'
import type { Tensor } from 'onnxruntime-web'
import type { AttentionNode } from './attention-node.js'
import { BufferPool } from './buffer-pool.js'
import type { CapturedPass, PassCall, PassOutput } from './captured-pass/captured-pass.js'
import type { CapturedPasses } from './captured-pass/captured-passes.js'
import type { CapturedStep } from './captured-step/captured-step.js'
import { reasonOf, rethrowUnrelated } from './errors.js'
import { checkFeeds, checkOutputs } from './feeds.js'
import { type Generation, type LanguageRunner, type ReadOptions, startGeneration } from './generate/generation.js'
import type { HostClock } from './generate/host-times.js'
import { LanguageFeeds } from './generate/language-feeds.js'
import { lastRow } from './generate/last-row.js'
import { checkOptions, type GenerateOptions } from './generate/options.js'
import type { HostFacts } from './host-check.js'
import { type Captured, type LoadedLevel, type LoadedModel, type LoadOptions, loadModel, release } from './load.js'
import { ModelCache, type ModelCacheOptions } from './model-cache.js'
import { ModelState } from './model-state.js'
import type { Ort, Provider } from './ort.js'
import type { AttentionEvent, AttentionMethod, AttentionOutput, ReplacedAttention } from './replaced-attention.js'
import { type CheckedSampling, checkSampling, type SampleOptions } from './sample/options.js'
import { type Evaluate, sampleFlow } from './sample/sample.js'
import { Values } from './values.js'

/** What a run tells methods; the layer is each attention's own. */
export type RunContext = Omit<AttentionContext, 'layer'>

export interface ModelRunOptions {
  /** Where past tokens are, and the new ones go. Needed by, and only by, a model that is loaded with `cache: true`. */
  readonly cache?: ModelCache
  /** In place of what was chosen when the model was loaded. Give the same object again: each is compiled once. */
  readonly attention?: AttentionMethod
  /**
   * What methods may want to know beyond tensors: denoising step, branch of guidance, grid of the tokens. A function tells it
   * for each attention, where grids differ.
   */
  readonly context?: RunContext | ((node: AttentionNode) => RunContext | undefined)
  /** What methods remember from run to run, made by `createState`. Default: each attention has its own, for all runs. */
  readonly state?: ModelState
  /** Outputs to return. Default: all of the graph's. */
  readonly outputs?: readonly string[]
  /** Stops before the next piece or submit; the call rejects with the signal's reason and frees what it made. */
  readonly signal?: AbortSignal
  /**
   * Called after each replaced attention, and awaited. Costs time: the GPU is drained before and after each attention, to
   * measure it.
   */
  readonly onAttention?: (event: AttentionEvent) => void | Promise<void>
}

/** Of recorded and other runs of one token: the same operators, some in another order of sums. */
const capturedTolerance = 1e-3

/** A call, and the recorded pass that runs it. */
interface RecordedCall {
  readonly pass: CapturedPass
  readonly call: PassCall
}

/** Who is told how far a run is. */
interface RunWatch {
  /** When everything was computed, or handed to the GPU. */
  readonly onSubmitted?: () => void
  readonly clock?: HostClock | undefined
}

/** What a model was cut into. */
export interface ModelDescription {
  readonly provider: Provider
  /** Whether `generate` runs single tokens on recorded sessions, and why. */
  readonly capturedSteps: { readonly used: boolean; readonly reason: string }
  /** Whether `sample` runs on recorded sessions, and why: known when something was sampled. */
  readonly capturedSampling: { readonly used: boolean; readonly reason: string }
  /** Sessions of onnxruntime-web that a run goes through, one after the other. */
  readonly pieces: number
  readonly attentions: readonly {
    readonly node: AttentionNode
    /** Ids of the methods, or 'keep' where onnxruntime-web computes it. */
    readonly prefill: string
    readonly decode: string
    /** Why it is replaced or kept. */
    readonly reason: string
  }[]
}

/**
 * An ONNX model whose attention is computed by methods of this project, and everything else by onnxruntime-web, on one
 * GPU device. Not thread-safe by design of onnxruntime-web: runs queue up.
 */
export class AttentionModel implements AsyncDisposable {
  readonly #model: LoadedModel
  readonly #pool: BufferPool
  /** As loaded, until a step is found to be wrong. */
  #captured: Captured
  #checkedStep = false
  #lastRun: Promise<unknown> = Promise.resolve()
  #disposed: Promise<void> | undefined

  private constructor(model: LoadedModel) {
    this.#model = model
    this.#pool = new BufferPool(model.engine.runtime)
    this.#captured = model.captured
  }

  /**
   * Reads, checks and cuts a model, then loads its pieces and compiles the methods.
   *
   * @param ort the module `onnxruntime-web`, or `onnxruntime-web/webgpu` where the pieces run on the GPU
   * @param bytes an .onnx file; weights in other files are `options.externalData`
   * @throws INVALID_FILE for a malformed file, UNSUPPORTED for one that cannot be cut, naming the node and the reason,
   *   before any GPU work
   * @throws WEBGPU_UNAVAILABLE, MISSING_DEPENDENCY when onnxruntime-web cannot start, and what `runtime.use` throws
   */
  static async load(
    runtime: Runtime,
    ort: Ort,
    bytes: Uint8Array | ArrayBuffer,
    options: LoadOptions,
  ): Promise<AttentionModel> {
    options.signal?.throwIfAborted()
    runtime.assertUsable()
    const view = bytes instanceof Uint8Array ? bytes : new Uint8Array(bytes)
    return new AttentionModel(await loadModel(runtime, ort, view, options))
  }

  /** Names of the tensors to feed. */
  get inputNames(): readonly string[] {
    return [...this.#model.inputs.keys()]
  }

  get outputNames(): readonly string[] {
    return this.#model.outputs
  }

  /**
   * Memory for the tokens of one conversation. A model may have several; each is the caller's to dispose.
   *
   * @throws INVALID_ARGUMENT for a model that is not loaded with `cache: true`, or sizes that are none; LIMIT_EXCEEDED
   */
  async createCache(options: ModelCacheOptions): Promise<ModelCache> {
    if (this.#disposed) throw disposed()
    const { cached, engine } = this.#model
    if (cached.length === 0) throw wrongCache('The model is not loaded for a cache.', 'Load it with cache: true.')
    return ModelCache.create(engine.runtime, cached, options)
  }

  /** What methods remember of one video, from step to step. A model may have several; each is the caller's to dispose. */
  createState(): ModelState {
    if (this.#disposed) throw disposed()
    return new ModelState(this.#model)
  }

  describe(): ModelDescription {
    const { engine, levels, choices, sampling } = this.#model
    const { step, reason } = this.#captured
    const { used, reason: samplingReason } = sampling.passes ?? { used: false, reason: sampling.reason }
    const replaced = new Map(levels.flatMap(({ attentions }) => attentions.map((each) => [each.node.layer, each])))
    return {
      provider: engine.provider,
      capturedSteps: { used: step !== undefined, reason },
      capturedSampling: { used, reason: samplingReason },
      pieces: levels.filter(({ session }) => session).length,
      attentions: choices.map(({ found: { node }, reason }) => {
        const ours = replaced.get(node.layer)
        if (!ours) return { node, prefill: 'keep', decode: 'keep', reason }
        return {
          node: ours.node,
          prefill: ours.methods.prefill.method.id,
          decode: ours.methods.decode.method.id,
          reason,
        }
      }),
    }
  }

  /**
   * Runs the model once.
   *
   * @param feeds one tensor for each of `inputNames`, on the CPU or, with provider 'webgpu', on the runtime's device; they
   *   stay the caller's
   * @returns the outputs, the caller's to dispose
   * @throws INVALID_ARGUMENT, INVALID_SHAPE, INVALID_DTYPE for wrong feeds; UNSUPPORTED for padded batches; DISPOSED;
   *   DEVICE_LOST; and what the methods throw
   */
  run(feeds: Readonly<Record<string, Tensor>>, options: ModelRunOptions = {}): Promise<Record<string, Tensor>> {
    return this.#enqueue(() => this.#run(feeds, options))
  }

  /**
   * Writes text: reads the prompt, then one token after another, each chosen from the logits of the one before. With a
   * `cache`, the prompt goes on from the conversation that it holds.
   *
   * For a decoder-only model with the inputs `input_ids`, and where it has them `attention_mask`, `position_ids` and
   * `num_logits_to_keep`, that is loaded with `cache: true`. Leaving the loop, an abort and an error leave the cache with all
   * that was written up to there.
   *
   * @param prompt ids of tokens
   * @throws INVALID_OPTION, INVALID_ARGUMENT, LIMIT_EXCEEDED, UNSUPPORTED, DISPOSED before any GPU work; the iterator rejects as
   *   `run` does, and with BUSY while another generation uses the cache
   */
  generate(prompt: ArrayLike<number>, options: GenerateOptions = {}): Generation {
    if (this.#disposed) throw disposed()
    const { inputs, outputs, engine, cached, types } = this.#model
    const checked = checkOptions(options)
    if (cached.length === 0) throw wrongCache('The model is not loaded for a cache.', 'Load it with cache: true.')
    if (checked.cache) this.#checkCache(checked.cache)
    const feeds = new LanguageFeeds(engine.ort, inputs, outputs)
    const size = types.get('logits')?.dims?.at(-1)
    const runner: LanguageRunner = {
      vocabularySize: typeof size === 'number' ? size : undefined,
      createCache: (capacity) => this.createCache({ capacity }),
      read: (ids, cache, options) => this.#read(feeds, ids, cache, options),
    }
    return startGeneration(runner, prompt, checked)
  }

  /**
   * Makes an image or a video with a diffusion model that was trained as a rectified flow: from noise at t = 1 to data at t = 0 by
   * Euler steps, with classifier-free guidance in two passes. Methods are told step, branch and grid, and remember in one state.
   *
   * @returns f32 of `shape`, the latents after the last step
   * @throws INVALID_OPTION, INVALID_SHAPE, INVALID_ARGUMENT, DISPOSED before any GPU work, and what `run` throws
   */
  async sample(options: SampleOptions): Promise<Float32Array<ArrayBuffer>> {
    if (this.#disposed) throw disposed()
    const checked = checkSampling(options)
    const [output] = checkOutputs(this.#model.outputs, options.output === undefined ? undefined : [options.output])
    this.#checkState(options.state)
    options.state?.reset()
    const state = options.state ?? this.createState()
    this.#model.sampling.passes?.forgetFeeds()
    try {
      return await sampleFlow((evaluation) => this.#evaluate(evaluation, checked, output!, state), checked)
    } finally {
      if (state !== options.state) state.dispose()
    }
  }

  async #evaluate(
    { latents, time, step, steps, branch }: Parameters<Evaluate>[0],
    checked: CheckedSampling,
    output: string,
    state: ModelState,
  ): Promise<Float32Array> {
    const { shape, inputs, condition, nullCondition, grid, attention, signal, onAttention, onPass } = checked
    const { Tensor: OrtTensor } = this.#model.engine.ort
    const feeds = {
      ...(branch === 'conditional' ? condition : nullCondition!),
      [inputs.latents]: new OrtTensor('float32', latents, shape),
      [inputs.time]: new OrtTensor('float32', new Float32Array(shape[0]!).fill(time), [shape[0]!]),
    }
    const options = {
      outputs: [output],
      context: { step, steps, branch, ...(grid && { grid }) },
      state,
      ...(attention && { attention }),
      ...(signal && { signal }),
      ...(onAttention && { onAttention }),
    }
    const { passes } = this.#model.sampling
    const recorded = checked.capture && !onAttention ? passes : undefined
    const {
      output: coming,
      captured,
      hostMs,
      submitted,
    } = await this.#enqueue(async () => {
      const ready = recorded && (await this.#recorded(recorded, feeds, options, output))
      let submitted = 0
      const onSubmitted = () => {
        submitted = performance.now()
      }
      const start = performance.now()
      // Of a recorded pass the output is not waited for here: the next one may be handed to the GPU meanwhile.
      const given = ready
        ? await this.#runRecorded(ready, onSubmitted)
        : { output: await this.#runForOutput(output, feeds, options, onSubmitted) }
      return { ...given, captured: ready !== undefined, hostMs: submitted - start, submitted }
    })
    const velocity = await coming
    onPass?.({ step, branch, captured, hostMs, waitMs: performance.now() - submitted })
    if (velocity.type === 'float32' && velocity.dims.join() === shape.join()) return velocity.values
    throw new SparseAttentionError('INVALID_SHAPE', {
      message: `The output '${output}' is ${velocity.type} [${velocity.dims}].`,
      fix: `It must be a velocity, float32 [${shape}]: name another output, or sample with a loop of your own around run.`,
      where: output,
    })
  }

  async #runForOutput(
    output: string,
    feeds: Readonly<Record<string, Tensor>>,
    options: ModelRunOptions,
    onSubmitted: () => void,
  ): Promise<PassOutput> {
    const tensor = (await this.#run(feeds, options, { onSubmitted }))[output]!
    try {
      return { type: tensor.type, dims: tensor.dims, values: (await tensor.getData()) as Float32Array }
    } finally {
      tensor.dispose()
    }
  }

  /** The recorded pass for a call, if there is one, the call checked as `run` checks it. */
  async #recorded(
    passes: CapturedPasses,
    feeds: Readonly<Record<string, Tensor>>,
    options: ModelRunOptions,
    output: string,
  ): Promise<RecordedCall | undefined> {
    const { engine, inputs } = this.#model
    options.signal?.throwIfAborted()
    engine.runtime.assertUsable()
    checkFeeds(inputs, feeds, engine.provider)
    this.#checkState(options.state)
    const { context, attention, state, signal } = options
    const call: PassCall = {
      ...{ feeds, facts: await this.#model.host.read(feeds), context: context as RunContext },
      ...{ method: attention, state, pool: this.#pool, signal },
    }
    const pass = await passes.get(call, output, async (attention) => {
      const { state: _, ...others } = options
      using state = this.createState()
      return (await this.#runForOutput(output, feeds, { ...others, state, attention }, () => {})).values
    })
    return pass && { pass, call }
  }

  async #runRecorded(
    { pass, call }: RecordedCall,
    onSubmitted: () => void,
  ): Promise<{ readonly output: Promise<PassOutput> }> {
    const handed = await pass.submit(call)
    onSubmitted()
    return handed
  }

  /** Reads tokens behind those of a cache; see `LanguageRunner`. */
  async #read(
    feeds: LanguageFeeds,
    ids: readonly number[],
    cache: ModelCache,
    options: ReadOptions,
  ): Promise<Float32Array> {
    const { step, capacity } = this.#captured
    const pastLength = cache.length
    const [token] = ids as readonly [number]
    if (!step || ids.length > 1 || options.onAttention || pastLength + 1 > capacity) {
      return this.#readByRun(feeds, ids, cache, options)
    }
    if (this.#checkedStep) return this.#enqueue(() => this.#readByStep(step, token, cache, options))
    // The first one is computed both ways, and the other one counts: from here on it is known that they agree.
    let found: Float32Array | string
    try {
      found = await this.#enqueue(() => this.#readByStep(step, token, cache, options))
      cache.truncate(pastLength)
    } catch (error) {
      rethrowUnrelated(error, this.#model.engine.runtime, options.signal)
      found = `the first recorded token failed: ${reasonOf(error)}`
    }
    const expected = await this.#readByRun(feeds, ids, cache, options)
    if (typeof found !== 'string') {
      const error = relativeError(found, expected)
      if (error <= capturedTolerance) this.#checkedStep = true
      else found = `the first recorded token had logits with a relative error of ${error.toExponential(1)}`
    }
    if (typeof found === 'string') this.#captured = { capacity, reason: found }
    return expected
  }

  async #readByRun(
    feeds: LanguageFeeds,
    ids: readonly number[],
    cache: ModelCache,
    options: ReadOptions,
  ): Promise<Float32Array> {
    const { clock, ...others } = options
    const runOptions = { ...others, cache, outputs: ['logits'] }
    const { logits } = await this.#enqueue(() => this.#run(feeds.make(ids, cache.length), runOptions, { clock }))
    try {
      const row = await lastRow(this.#model.engine.runtime, logits!)
      clock?.endLogits()
      return row
    } finally {
      logits!.dispose()
    }
  }

  async #readByStep(
    step: CapturedStep,
    token: number,
    cache: ModelCache,
    { signal, attention, clock }: ReadOptions,
  ): Promise<Float32Array> {
    const { engine } = this.#model
    signal?.throwIfAborted()
    engine.runtime.assertUsable()
    this.#checkCache(cache)
    cache.begin(engine.ort)
    const layers = (layer: number) => cache.layer(layer)
    const past = { pastLength: cache.length, cache: layers }
    const logits = await step.run({ token, ...past, method: attention, signal, clock })
    cache.commit()
    return logits
  }

  #enqueue<T>(work: () => Promise<T>): Promise<T> {
    if (this.#disposed) return Promise.reject(disposed())
    const result = this.#lastRun.then(work)
    this.#lastRun = result.catch(() => {})
    return result
  }

  /** Waits for the run under way, then frees sessions, methods and buffers. May be called twice. */
  dispose(): Promise<void> {
    this.#disposed ??= this.#lastRun.then(() => this.#release())
    return this.#disposed
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose()
  }

  async #run(
    feeds: Readonly<Record<string, Tensor>>,
    options: ModelRunOptions,
    { onSubmitted, clock }: RunWatch = {},
  ): Promise<Record<string, Tensor>> {
    const { engine, inputs, outputs, levels, lastUse } = this.#model
    clock?.start(false)
    options.signal?.throwIfAborted()
    engine.runtime.assertUsable()
    checkFeeds(inputs, feeds, engine.provider)
    const requested = new Set(checkOutputs(outputs, options.outputs))
    this.#checkState(options.state)
    const cache = this.#checkCache(options.cache)
    const given = cache ? { ...feeds, ...cache.begin(engine.ort) } : feeds
    const facts = await this.#model.host.read(given)
    const values = new Values(given)
    engine.begin()
    try {
      for (const [index, level] of levels.entries()) {
        options.signal?.throwIfAborted()
        await this.#runPiece(level, values, requested)
        if (level.session) clock?.endPiece()
        for (const attention of level.attentions) await this.#attend(attention, values, facts, feeds, options)
        if (level.attentions.length > 0) clock?.endAttentions()
        for (const [value, last] of lastUse) if (last === index && !requested.has(value)) values.free(value)
      }
      onSubmitted?.()
      await engine.heard()
      const results = await this.#collect(requested, values, feeds)
      cache?.commit()
      return results
    } finally {
      values.freeAll()
    }
  }

  #checkCache(cache: ModelCache | undefined): ModelCache | undefined {
    const { cached } = this.#model
    if (cache && cached.length === 0) {
      throw wrongCache('The model is not loaded for a cache.', 'Load it with cache: true, or feed the past.')
    }
    if (!cache && cached.length > 0) {
      throw wrongCache('The model is loaded for a cache, and the run is given none.', 'Pass one of createCache.')
    }
    if (cache && cache.owner !== cached) {
      throw wrongCache('The cache belongs to another model.', 'Pass one of this model, made by createCache.')
    }
    return cache
  }

  #checkState(state: ModelState | undefined): void {
    if (!state) return
    state.assertUsable()
    if (state.owner === this.#model) return
    throw new SparseAttentionError('INVALID_ARGUMENT', {
      message: 'The state belongs to another model.',
      fix: 'Pass one of this model, made by createState.',
      where: 'state',
    })
  }

  async #runPiece(level: LoadedLevel, values: Values, requested: ReadonlySet<string>): Promise<void> {
    const { session, name } = level
    const fetches = level.outputs.filter((value) => this.#model.lastUse.has(value) || requested.has(value))
    if (!session || fetches.length === 0) return
    const feeds = Object.fromEntries(level.inputs.map((input) => [input, values.get(input)]))
    const results = await this.#model.engine.run(session, feeds, fetches, name)
    for (const [value, tensor] of Object.entries(results)) values.add(value, tensor)
  }

  async #attend(
    attention: ReplacedAttention,
    values: Values,
    facts: HostFacts,
    feeds: Readonly<Record<string, Tensor>>,
    { signal, onAttention, cache, attention: method, context, state }: ModelRunOptions,
  ): Promise<void> {
    const { q, k, v, output, found } = attention.cut
    const result = await attention.run({
      tensors: { q: values.get(q), k: values.get(k), v: values.get(v) },
      facts,
      pastLength: feeds[found.args.pastKey]?.dims[2] ?? 0,
      cache: cache?.layer(found.node.layer),
      method,
      context: typeof context === 'function' ? context(attention.node) : context,
      state,
      pool: this.#pool,
      signal,
      onAttention,
    })
    const { buffer } = result
    if (this.#model.engine.provider === 'webgpu') {
      values.add(output, this.#gpuTensor(result), () => this.#pool.give(buffer))
      return
    }
    try {
      values.add(output, await this.#readBack(result))
    } finally {
      this.#pool.give(buffer)
    }
  }

  #gpuTensor({ buffer, dtype, dims }: AttentionOutput): Tensor {
    const { ort } = this.#model.engine
    return ort.Tensor.fromGpuBuffer(buffer as never, {
      dataType: dtype === 'f32' ? 'float32' : 'float16',
      dims,
      download: async () => (await this.#readBack({ buffer, dtype, dims })).data as never,
      dispose: () => {
        this.#pool.surrender(buffer)
        buffer.destroy()
      },
    })
  }

  async #readBack({ buffer, dtype, dims }: AttentionOutput): Promise<Tensor> {
    const { ort, runtime } = this.#model.engine
    const sizeBytes = dims.reduce((product, dim) => product * dim, dtype === 'f32' ? 4 : 2)
    const bytes = await runtime.readBytes({ buffer, offsetBytes: 0, sizeBytes })
    return dtype === 'f32'
      ? new ort.Tensor('float32', new Float32Array(bytes), dims)
      : new ort.Tensor('float16', new Uint16Array(bytes), dims)
  }

  async #collect(
    requested: ReadonlySet<string>,
    values: Values,
    feeds: Readonly<Record<string, Tensor>>,
  ): Promise<Record<string, Tensor>> {
    const outputs: Record<string, Tensor> = {}
    try {
      for (const name of requested) {
        const fed = feeds[name]
        if (fed) {
          outputs[name] = fed
          continue
        }
        const tensor = values.give(name)
        outputs[name] = tensor
        if (tensor.location === 'gpu-buffer' && this.#model.location(name) === 'cpu')
          await this.#model.engine.download(tensor)
      }
      return outputs
    } catch (error) {
      for (const [name, tensor] of Object.entries(outputs)) if (!feeds[name]) tensor.dispose()
      throw error
    }
  }

  async #release(): Promise<void> {
    await release(this.#model)
    this.#pool.dispose()
  }
}

function disposed(): SparseAttentionError {
  return new SparseAttentionError('DISPOSED', {
    message: 'The model is disposed.',
    fix: 'Load it again.',
    where: 'model',
  })
}

function wrongCache(message: string, fix: string): SparseAttentionError {
  return new SparseAttentionError('INVALID_ARGUMENT', { message, fix, where: 'cache' })
}
