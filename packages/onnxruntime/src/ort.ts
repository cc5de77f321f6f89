import { type Runtime, SparseAttentionError } from '@sparse-attention/core'
import type { InferenceSession, Tensor } from 'onnxruntime-web'
import { invalidFile, lacksMemory, reasonOf } from './errors.js'
import { elemTypeOf } from './onnx.js'
import type { ValueType } from './piece-model.js'

/** The module `onnxruntime-web`, or its build `onnxruntime-web/webgpu`. */
export type Ort = Pick<typeof import('onnxruntime-web'), 'InferenceSession' | 'Tensor'>

/** Who runs the pieces: onnxruntime-web on the runtime's GPU device, or on the CPU. */
export type Provider = 'webgpu' | 'wasm'

/** Options of onnxruntime-web's sessions, less those that the pieces depend on. */
export type SessionOptions = Omit<
  InferenceSession.SessionOptions,
  'executionProviders' | 'preferredOutputLocation' | 'enableGraphCapture' | 'externalData' | 'optimizedModelFilePath'
>

/** Sessions of one model on one provider, and everything that is peculiar to onnxruntime-web. */
export class Engine {
  /** Of runs whose results somebody has: what lacked memory, if it did. */
  readonly #news: Promise<string | undefined>[] = []

  constructor(
    readonly ort: Ort,
    readonly runtime: Runtime,
    readonly provider: Provider,
    private readonly options: SessionOptions = {},
    private readonly captures = false,
  ) {}

  /**
   * One whose sessions record their dispatches and replay them: shapes are fixed, and all inputs and outputs stay on the GPU in the
   * same buffers. They do not ask the device for errors after each run, which takes longer than the run.
   */
  capturing(): Engine {
    return new Engine(this.ort, this.runtime, this.provider, this.options, true)
  }

  /**
   * @param what the part of the model, for errors
   * @param onGpu outputs to leave on the GPU
   * @throws INVALID_FILE when onnxruntime-web refuses the model; MISSING_DEPENDENCY, WEBGPU_UNAVAILABLE when it cannot start;
   *   OUT_OF_MEMORY when the GPU has none for its weights
   */
  async load(model: Uint8Array, what: string, onGpu: readonly string[] = []): Promise<InferenceSession> {
    const { device } = this.runtime
    const gpu = this.provider === 'webgpu'
    const watch = this.#watch()
    let session: InferenceSession
    try {
      session = await watch.call(() =>
        this.ort.InferenceSession.create(model, {
          // Its warnings are about operators that it runs on the CPU on purpose.
          logSeverityLevel: 3,
          ...this.options,
          executionProviders: [
            gpu ? { name: 'webgpu', device, ...(this.captures && { validationMode: 'disabled' }) } : 'wasm',
          ],
          ...(this.captures && { enableGraphCapture: true, extra: withoutReshapes(this.options.extra) }),
          ...(gpu ? { preferredOutputLocation: Object.fromEntries(onGpu.map((name) => [name, 'gpu-buffer'])) } : {}),
        } as InferenceSession.SessionOptions),
      )
    } catch (cause) {
      if (SparseAttentionError.is(cause)) throw cause
      if (await watch.lacks()) throw lacksMemory(what, cause)
      const reason = reasonOf(cause)
      if (reason.includes('no available backend')) throw notStarted(this.provider, reason, cause)
      throw invalidFile(`onnxruntime-web refuses ${what}: ${reason}.`, what, cause)
    }
    if (!(await watch.lacks())) return session
    await this.release(session)
    throw lacksMemory(what)
  }

  /**
   * @param waits for the news that there was memory for it, in a session that captures too; else `heard` tells
   * @throws INVALID_ARGUMENT when onnxruntime-web cannot compute the piece, OUT_OF_MEMORY, DEVICE_LOST
   */
  async run(
    session: InferenceSession,
    feeds: Readonly<Record<string, Tensor>>,
    fetches: readonly string[],
    what: string,
    waits = false,
  ): Promise<Readonly<Record<string, Tensor>>> {
    // A replay allocates nothing, and is not to wait for news.
    const watch = this.captures && !waits ? undefined : this.#watch()
    const call = () => this.runtime.whileAlive(session.run(feeds, fetches))
    try {
      const results = await (watch ? watch.call(call) : this.#exclusive(call))
      if (!waits && watch && this.provider === 'webgpu')
        this.#news.push(watch.lacks().then((lacks) => (lacks ? what : undefined)))
      if (waits && (await watch?.lacks())) throw lacksMemory(what)
      return results as Readonly<Record<string, Tensor>>
    } catch (cause) {
      if (SparseAttentionError.is(cause)) throw cause
      if (await watch?.lacks()) throw lacksMemory(what, cause)
      throw new SparseAttentionError('INVALID_ARGUMENT', {
        message: `onnxruntime-web cannot compute ${what} with these feeds: ${reasonOf(cause)}.`,
        fix: 'Check the shapes of the feeds against each other.',
        where: what,
        cause,
      })
    }
  }

  /** Forgets news of runs before, which have failed otherwise. */
  begin(): void {
    this.#news.length = 0
  }

  /** Waits for the news of all runs since. @throws OUT_OF_MEMORY */
  async heard(): Promise<void> {
    const lacking = (await Promise.all(this.#news.splice(0))).find((what) => what !== undefined)
    if (lacking !== undefined) throw lacksMemory(lacking)
  }

  /** Moves a tensor from the GPU to the CPU. @throws OUT_OF_MEMORY, DEVICE_LOST */
  async download(tensor: Tensor): Promise<void> {
    const watch = this.#watch()
    try {
      await watch.call(() => this.runtime.whileAlive(tensor.getData(true)))
    } catch (cause) {
      if (await watch.lacks()) throw lacksMemory('an output', cause)
      throw cause
    }
  }

  async release(session: InferenceSession): Promise<void> {
    await this.#exclusive(() => session.release())
  }

  /**
   * A call, and whether it lacked memory: onnxruntime-web asks the device only whether work was valid, and fails with that, or not
   * at all. The answer comes later and is waited for by whom it concerns.
   */
  #watch(): { call<T>(call: () => Promise<T>): Promise<T>; lacks(): Promise<boolean> } {
    const { device } = this.runtime
    let news: Promise<boolean> = Promise.resolve(false)
    return {
      call: (call) =>
        this.#exclusive(async () => {
          if (this.provider !== 'webgpu') return await call()
          device.pushErrorScope('out-of-memory')
          try {
            return await call()
          } finally {
            news = device.popErrorScope().then(
              (error) => error !== null,
              () => false, // of a lost device, which says so itself
            )
          }
        }),
      lacks: () => news,
    }
  }

  /** Its wasm module serves one call at a time, whichever session it is for. */
  #exclusive<T>(call: () => Promise<T>): Promise<T> {
    const queue = lastCall.get(this.ort.InferenceSession) ?? Promise.resolve()
    const result = queue.then(() => whileTicking(call))
    const settled = result.then(
      () => {},
      () => {},
    )
    lastCall.set(this.ort.InferenceSession, settled)
    return result
  }
}

/**
 * A product and a sum that are joined give a matrix, which is then reshaped; where that is an output of the session it is a copy, and those
 * are not recorded (version 1.30).
 */
function withoutReshapes(extra: SessionOptions['extra'] = {}): Record<string, unknown> {
  const { optimization = {} } = extra as { optimization?: object }
  return { ...extra, optimization: { disable_specified_optimizers: 'MatMulAddFusion', ...optimization } }
}

const lastCall = new WeakMap<object, Promise<void>>()

/**
 * In Node, what Dawn has ready for onnxruntime-web's wasm is delivered only when something else wakes the event loop: the
 * first run of a session stood still for 40 s with `webgpu` 0.6.2 in Node 20. A timer is something else.
 */
async function whileTicking<T>(call: () => Promise<T>): Promise<T> {
  if (typeof process === 'undefined' || !process.versions?.node) return call()
  const timer = setInterval(() => {}, 1)
  try {
    return await call()
  } finally {
    clearInterval(timer)
  }
}

function notStarted(provider: Provider, reason: string, cause: unknown): SparseAttentionError {
  return new SparseAttentionError(provider === 'webgpu' ? 'WEBGPU_UNAVAILABLE' : 'MISSING_DEPENDENCY', {
    message: `onnxruntime-web cannot start its ${provider} provider: ${reason}.`,
    fix:
      provider === 'webgpu'
        ? "Pass the module onnxruntime-web/webgpu where navigator.gpu exists (in Node: loadOrt of this package's ./node), or use provider: 'wasm'."
        : 'Let ort.env.wasm.wasmPaths point at the .wasm files of the same version of onnxruntime-web.',
    where: 'ort',
    cause,
  })
}

/** onnxruntime-web reports a dim that is neither a number nor named as −1 in 32 bits. */
const UNKNOWN_DIM = 0xffff_ffff

/** Types of a session's outputs, as inputs of the pieces after it. */
export function outputTypes(session: InferenceSession): Map<string, ValueType> {
  const types = new Map<string, ValueType>()
  for (const output of session.outputMetadata) {
    if (!output.isTensor) continue
    const dims = output.shape.map((dim) =>
      typeof dim === 'string' ? dim || undefined : dim >= 0 && dim < UNKNOWN_DIM ? dim : undefined,
    )
    // No dims means a scalar, or an unknown rank.
    types.set(output.name, { elemType: elemTypeOf(output.type), dims: dims.length > 0 ? dims : undefined })
  }
  return types
}
