import { type Runtime, SparseAttentionError } from '@sparse-attention/core'
import type { InferenceSession, Tensor } from 'onnxruntime-web'
import { invalidFile, reasonOf } from './errors.js'
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
   * @throws INVALID_FILE when onnxruntime-web refuses the model; MISSING_DEPENDENCY, WEBGPU_UNAVAILABLE when it cannot start
   */
  async load(model: Uint8Array, what: string, onGpu: readonly string[] = []): Promise<InferenceSession> {
    const { device } = this.runtime
    const gpu = this.provider === 'webgpu'
    try {
      return await this.#exclusive(() =>
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
      const reason = reasonOf(cause)
      if (reason.includes('no available backend')) throw notStarted(this.provider, reason, cause)
      throw invalidFile(`onnxruntime-web refuses ${what}: ${reason}.`, what, cause)
    }
  }

  /** @throws INVALID_ARGUMENT when onnxruntime-web cannot compute the piece, DEVICE_LOST */
  async run(
    session: InferenceSession,
    feeds: Readonly<Record<string, Tensor>>,
    fetches: readonly string[],
    what: string,
  ): Promise<Readonly<Record<string, Tensor>>> {
    try {
      const results = await this.#exclusive(() => this.runtime.whileAlive(session.run(feeds, fetches)))
      return results as Readonly<Record<string, Tensor>>
    } catch (cause) {
      if (SparseAttentionError.is(cause)) throw cause
      throw new SparseAttentionError('INVALID_ARGUMENT', {
        message: `onnxruntime-web cannot compute ${what} with these feeds: ${reasonOf(cause)}.`,
        fix: 'Check the shapes of the feeds against each other.',
        where: what,
        cause,
      })
    }
  }

  /** Moves a tensor from the GPU to the CPU. */
  async download(tensor: Tensor): Promise<void> {
    await this.#exclusive(() => this.runtime.whileAlive(tensor.getData(true)))
  }

  async release(session: InferenceSession): Promise<void> {
    await this.#exclusive(() => session.release())
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
