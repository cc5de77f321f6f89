import { SparseAttentionError } from './errors.js'
import type { AttentionShape } from './method.js'
import { blockGrid, countPairs, denseMask, type HostBlockPlan, lastVisibleKey, type PlanData } from './plan.js'
import type { Runtime } from './runtime.js'
import type { BufferSlice } from './tensor.js'

const STORAGE_COPY = 0x80 | 0x04 | 0x08

export interface PlanStats {
  /** Kept query–key pairs ÷ pairs visible under the causal rule, over batch and heads. */
  readonly density: number
  readonly path: 'sparse' | 'dense'
  readonly keptPairs: number
  readonly visiblePairs: number
}

/**
 * What a method selected: a view into its attention's memory, valid until that attention's next call.
 * `clone()` keeps it. Reading it back is always asked for.
 */
export interface Plan extends Disposable {
  /** Id of the method that made it. */
  readonly method: string
  /** What ran. */
  readonly path: 'sparse' | 'dense'
  readonly shape: AttentionShape
  readonly causal: boolean
  /** Reads the selection back as a block bitmap; a dense path reads as all visible blocks of 128×128. */
  read(): Promise<HostBlockPlan>
  /** Reads back and counts. */
  stats(): Promise<PlanStats>
  /** Dense mask u8[B, Hq, Lq, Lk], causality included. For tests and pictures: quadratic in the length. */
  toMask(): Promise<Uint8Array>
  /** A copy that outlives the attention's next call, owned by the caller. */
  clone(): Plan
  /** Frees a clone; does nothing for a view. */
  dispose(): void
  /**
   * @internal the selection, if it may be used for a call of this shape
   * @throws WRONG_RUNTIME, STALE_PLAN, INVALID_SHAPE
   */
  dataFor(runtime: Runtime, shape: AttentionShape, causal: boolean): PlanData
}

/** Memory of one attention's plan: grows with the shape, reused by every call. */
export class PlanMemory {
  readonly #runtime: Runtime
  #buffer: GPUBuffer | undefined
  /** Outgrown buffers: an encoder that is not submitted yet may hold them. They are smaller than `#buffer` together. */
  #outgrown: GPUBuffer[] = []
  #generation = 0
  #taken = false

  constructor(runtime: Runtime) {
    this.#runtime = runtime
  }

  /** Counts calls: a plan of an earlier call is stale. */
  get generation(): number {
    return this.#generation
  }

  nextGeneration(): void {
    this.#generation++
    this.#taken = false
  }

  allocate(sizeBytes: number): BufferSlice {
    if (this.#taken) throw new Error('a method asks for one plan buffer a call')
    this.#taken = true
    const size = Math.ceil(sizeBytes / 16) * 16
    const limit = checkPlanSize(this.#runtime, size)
    if (!this.#buffer || this.#buffer.size < size) {
      if (this.#buffer) this.#outgrown.push(this.#buffer)
      const grown = Math.min(limit, Math.max(size, 2 * (this.#buffer?.size ?? 0)))
      this.#buffer = this.#runtime.device.createBuffer({
        label: 'sparse-attention plan',
        size: grown,
        usage: STORAGE_COPY,
      })
    }
    return { buffer: this.#buffer, offsetBytes: 0, sizeBytes: size }
  }

  dispose(): void {
    this.nextGeneration()
    this.#buffer?.destroy()
    this.#buffer = undefined
    for (const buffer of this.#outgrown) buffer.destroy()
    this.#outgrown = []
  }
}

/** @internal */
export function createPlan(
  runtime: Runtime,
  method: string,
  data: PlanData,
  shape: AttentionShape,
  causal: boolean,
  memory: PlanMemory,
): Plan {
  const generation = memory.generation
  return new PlanView(runtime, method, data, shape, causal, () => memory.generation === generation)
}

/**
 * A block plan from the host: a fixed pattern, a saved selection, a test's random mask. Owned by the caller.
 *
 * @throws INVALID_SHAPE when the bitmap's length does not fit the geometry, INVALID_ARGUMENT for block sizes that the
 *   kernels do not take (multiples of 64), LIMIT_EXCEEDED when the bitmap is too large to bind
 */
export function uploadPlan(runtime: Runtime, plan: HostBlockPlan, shape: AttentionShape): Plan {
  runtime.assertUsable()
  const { queryBlocks, wordsPerRow } = blockGrid(plan)
  const words = plan.batch * plan.queryHeads * queryBlocks * wordsPerRow
  for (const name of ['blockQ', 'blockK'] as const) {
    if (!Number.isSafeInteger(plan[name]) || plan[name] < 64 || plan[name] % 64 !== 0) {
      throw new SparseAttentionError('INVALID_ARGUMENT', {
        message: `The plan has ${name} ${plan[name]}.`,
        fix: 'Use a positive multiple of 64.',
        where: name,
      })
    }
  }
  const fits =
    plan.batch === shape.batch &&
    plan.queryHeads === shape.queryHeads &&
    plan.queryLength === shape.queryLength &&
    plan.keyLength === shape.keyLength
  if (!fits || plan.bitmap.length !== words) {
    throw new SparseAttentionError('INVALID_SHAPE', {
      message: `The plan's bitmap has ${plan.bitmap.length} words for batch ${plan.batch}, ${plan.queryHeads} heads and lengths ${plan.queryLength}×${plan.keyLength}.`,
      fix: `Pass u32[batch, query_heads, query_blocks, ceil(key_blocks/32)] = ${words} words, of the same shape as the tensors.`,
      where: 'bitmap',
    })
  }
  const size = Math.ceil(words / 4) * 16
  checkPlanSize(runtime, size)
  const buffer = runtime.device.createBuffer({ label: 'sparse-attention plan', size, usage: STORAGE_COPY })
  runtime.device.queue.writeBuffer(buffer, 0, plan.bitmap as Uint32Array<ArrayBuffer>)
  const { bitmap: _, ...geometry } = plan
  const data: PlanData = { kind: 'block', ...geometry, bitmap: { buffer, offsetBytes: 0, sizeBytes: buffer.size } }
  return new PlanView(runtime, 'uploaded', data, shape, plan.causal, undefined, buffer)
}

/** The most bytes that a plan may have. */
function checkPlanSize(runtime: Runtime, size: number): number {
  const limit = runtime.device.limits.maxStorageBufferBindingSize
  if (size <= limit) return limit
  throw new SparseAttentionError('LIMIT_EXCEEDED', {
    message: `The plan needs ${size} bytes, one binding may have ${limit}.`,
    fix: 'Split the call by batch or heads, use larger blocks, or request a device with larger limits.',
    where: 'maxStorageBufferBindingSize',
  })
}

class PlanView implements Plan {
  readonly path: 'sparse' | 'dense'
  #disposed = false

  constructor(
    private readonly runtime: Runtime,
    readonly method: string,
    private readonly data: PlanData,
    readonly shape: AttentionShape,
    readonly causal: boolean,
    /** Absent for plans that own their memory. */
    private readonly isCurrent: (() => boolean) | undefined,
    private readonly owned?: GPUBuffer,
  ) {
    this.path = data.kind === 'dense' ? 'dense' : 'sparse'
  }

  dataFor(runtime: Runtime, shape: AttentionShape, causal: boolean): PlanData {
    if (runtime !== this.runtime) {
      throw new SparseAttentionError('WRONG_RUNTIME', {
        message: `The plan of ${this.method} belongs to another runtime.`,
        fix: 'Read it with plan.read() and upload it there with uploadPlan.',
        where: 'plan',
      })
    }
    this.#assertCurrent()
    const keys = ['batch', 'queryHeads', 'queryLength', 'keyLength'] as const
    const differs = keys.find((key) => this.shape[key] !== shape[key])
    if (differs || this.causal !== causal) {
      const [has, needs] = differs ? [this.shape[differs], shape[differs]] : [this.causal, causal]
      throw new SparseAttentionError('INVALID_SHAPE', {
        message: `The plan was made for ${differs ?? 'causal'} ${has}, the call has ${needs}.`,
        fix: 'Use a plan only with tensors of the shape it was made for.',
        where: 'plan',
      })
    }
    return this.data
  }

  async read(): Promise<HostBlockPlan> {
    this.#assertCurrent()
    const { data, shape, causal } = this
    const { batch, queryHeads, queryLength, keyLength } = shape
    if (data.kind === 'dense')
      return fullPlan({ batch, queryHeads, queryLength, keyLength, blockQ: 128, blockK: 128, causal })
    const { bitmap, kind: _, ...geometry } = data
    return {
      ...geometry,
      bitmap: new Uint32Array(await this.runtime.readBytes(bitmap)).slice(0, bitmapWords(geometry)),
    }
  }

  async stats(): Promise<PlanStats> {
    const { kept, visible } = countPairs(await this.read())
    return { density: visible === 0 ? 1 : kept / visible, path: this.path, keptPairs: kept, visiblePairs: visible }
  }

  async toMask(): Promise<Uint8Array> {
    return denseMask(await this.read())
  }

  clone(): Plan {
    this.#assertCurrent()
    const { runtime, data, method, shape, causal } = this
    if (data.kind === 'dense') return new PlanView(runtime, method, data, shape, causal, undefined)
    const { buffer, offsetBytes, sizeBytes } = data.bitmap
    const copy = runtime.device.createBuffer({ label: 'sparse-attention plan', size: sizeBytes, usage: STORAGE_COPY })
    const encoder = runtime.device.createCommandEncoder()
    encoder.copyBufferToBuffer(buffer, offsetBytes, copy, 0, sizeBytes)
    runtime.device.queue.submit([encoder.finish()])
    const bitmap = { buffer: copy, offsetBytes: 0, sizeBytes }
    return new PlanView(runtime, method, { ...data, bitmap }, shape, causal, undefined, copy)
  }

  dispose(): void {
    if (!this.owned || this.#disposed) return
    this.#disposed = true
    this.owned.destroy()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }

  #assertCurrent(): void {
    this.runtime.assertUsable()
    if (this.#disposed) {
      throw new SparseAttentionError('DISPOSED', {
        message: `This plan of ${this.method} is disposed.`,
        fix: 'Keep it until its last use.',
        where: 'plan',
      })
    }
    if (this.isCurrent && !this.isCurrent()) {
      throw new SparseAttentionError('STALE_PLAN', {
        message: `This plan of ${this.method} was overwritten by its attention's next call, or its attention was disposed.`,
        fix: 'Call plan.clone() before the next run to keep a plan.',
        where: 'plan',
      })
    }
  }
}

function bitmapWords(geometry: Omit<HostBlockPlan, 'bitmap'>): number {
  const { queryBlocks, wordsPerRow } = blockGrid(geometry)
  return geometry.batch * geometry.queryHeads * queryBlocks * wordsPerRow
}

/** All blocks that hold a visible pair. */
function fullPlan(geometry: Omit<HostBlockPlan, 'bitmap'>): HostBlockPlan {
  const { queryBlocks, wordsPerRow } = blockGrid(geometry)
  const plan: HostBlockPlan = { ...geometry, bitmap: new Uint32Array(bitmapWords(geometry)) }
  for (let row = 0; row < geometry.batch * geometry.queryHeads * queryBlocks; row++) {
    const lastRow = Math.min(((row % queryBlocks) + 1) * geometry.blockQ, geometry.queryLength) - 1
    const lastKey = lastVisibleKey(geometry, lastRow)
    for (let c = 0; c * geometry.blockK <= lastKey; c++) plan.bitmap[row * wordsPerRow + (c >> 5)]! |= 1 << (c & 31)
  }
  return plan
}
