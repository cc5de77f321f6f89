import { allocateBuffer, allocateBuffers, isMissing } from './allocate.js'
import { SparseAttentionError } from './errors.js'
import { countPairs, denseMask, type HostPermutation, type HostPlan } from './host-plan.js'
import type { AttentionShape } from './method.js'
import {
  blockGrid,
  lastVisibleKey,
  type PlanData,
  type PlanForm,
  type PlanGeometry,
  type PlanKind,
  type PlanPermutation,
  planElements,
} from './plan.js'
import type { Runtime } from './runtime.js'
import type { BufferSlice } from './tensor.js'
import { checkHostPlan, validatePlan } from './validate-plan.js'

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
  readonly kind: PlanKind
  readonly shape: AttentionShape
  readonly causal: boolean
  /** Reads the selection back, in its own form; a dense path reads as all visible blocks of 128×128. */
  read(): Promise<HostPlan>
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

/** Memory of one attention's plan, a buffer for each of its arrays: grows with the shape, reused by every call. */
export class PlanMemory {
  readonly #runtime: Runtime
  readonly #buffers: GPUBuffer[] = []
  /** Outgrown buffers: an encoder that is not submitted yet may hold them. They are smaller than those in use together. */
  #outgrown: GPUBuffer[] = []
  #generation = 0
  #taken = 0

  constructor(runtime: Runtime) {
    this.#runtime = runtime
  }

  /** Counts calls: a plan of an earlier call is stale. */
  get generation(): number {
    return this.#generation
  }

  nextGeneration(): void {
    this.#generation++
    this.#taken = 0
  }

  allocate(sizeBytes: number): BufferSlice {
    const size = Math.ceil(sizeBytes / 16) * 16
    const limit = checkPlanSize(this.#runtime, size)
    const slot = this.#taken++
    let buffer = this.#buffers[slot]
    if (!buffer || buffer.size < size || isMissing(buffer)) {
      const grown = Math.min(limit, Math.max(size, buffer && buffer.size < size ? 2 * buffer.size : 0))
      const made = allocateBuffer(this.#runtime.device, {
        label: 'sparse-attention plan',
        size: grown,
        usage: STORAGE_COPY,
      })
      if (buffer && isMissing(buffer)) buffer.destroy()
      else if (buffer) this.#outgrown.push(buffer)
      this.#buffers[slot] = made
      buffer = made
    }
    return { buffer, offsetBytes: 0, sizeBytes: size }
  }

  dispose(): void {
    this.nextGeneration()
    for (const buffer of [...this.#buffers, ...this.#outgrown]) buffer.destroy()
    this.#buffers.length = 0
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
 * A plan from the host: a fixed pattern, a saved selection, a test's random mask. Owned by the caller.
 *
 * Its arrays are trusted to be in order: entries that are not ascending, disjoint or in range make some keys count twice
 * or not at all, but never read outside of the tensors.
 *
 * @throws INVALID_SHAPE when the geometry does not fit the shape or an array's length the geometry, INVALID_ARGUMENT for what is no plan, for block
 *   sizes (multiples of 64), counts and numbers of lists (one or two) that the kernels do not take, LIMIT_EXCEEDED when an array is too large to bind
 */
export function uploadPlan(runtime: Runtime, plan: HostPlan, shape: AttentionShape): Plan {
  runtime.assertUsable()
  checkHostPlan(plan)
  const { arrays, form } = splitArrays(plan)
  validatePlan(form, shape)
  const elements = planElements(form)
  for (const [name, array] of Object.entries(arrays)) {
    if (array.length === (elements as Record<string, number>)[name]) continue
    throw new SparseAttentionError('INVALID_SHAPE', {
      message: `The plan's ${name} has ${array.length} elements, its geometry ${elements[name]}.`,
      fix: 'Pass every array in the shape that HostPlan documents.',
      where: name,
    })
  }
  const slices = makeArrays(runtime, elements)
  for (const [name, array] of Object.entries(arrays)) {
    runtime.device.queue.writeBuffer(slices[name]!.buffer, 0, array as Uint32Array<ArrayBuffer>)
  }
  return new PlanView(runtime, 'uploaded', withArrays<PlanData>(form, slices), shape, plan.causal, undefined, slices)
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

/** A buffer for each array of a plan. All sizes are checked before the first is made. */
function makeArrays(runtime: Runtime, elements: Readonly<Record<string, number>>): Record<string, BufferSlice> {
  const descriptors = Object.entries(elements).map(([name, count]) => {
    // A binding is never empty.
    const size = Math.max(16, Math.ceil(count / 4) * 16)
    checkPlanSize(runtime, size)
    return { label: `sparse-attention plan ${name}`, size, usage: STORAGE_COPY }
  })
  const buffers = allocateBuffers(runtime.device, descriptors)
  const slice = (buffer: GPUBuffer): BufferSlice => ({ buffer, offsetBytes: 0, sizeBytes: buffer.size })
  return Object.fromEntries(Object.keys(elements).map((name, i) => [name, slice(buffers[i]!)]))
}

class PlanView implements Plan {
  readonly path: 'sparse' | 'dense'
  readonly kind: PlanKind
  #disposed = false

  constructor(
    private readonly runtime: Runtime,
    readonly method: string,
    private readonly data: PlanData,
    readonly shape: AttentionShape,
    readonly causal: boolean,
    /** Absent for plans that own their memory. */
    private readonly isCurrent: (() => boolean) | undefined,
    private readonly owned?: Readonly<Record<string, BufferSlice>>,
  ) {
    this.kind = data.kind
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

  async read(): Promise<HostPlan> {
    this.#assertCurrent()
    const { data, shape, causal } = this
    const { batch, queryHeads, queryLength, keyLength } = shape
    if (data.kind === 'dense') return fullPlan({ batch, queryHeads, queryLength, keyLength, causal })
    const { arrays, form } = splitArrays(data)
    const elements = planElements(form)
    const read = Object.entries(arrays).map(async ([name, slice]) => {
      const bytes = await this.runtime.readBytes({ ...slice, sizeBytes: 4 * elements[name]! })
      return [name, name === 'bitmap' ? new Uint32Array(bytes) : new Int32Array(bytes)] as const
    })
    // All of them end before this does: a call that fails leaves no buffer behind.
    await Promise.allSettled(read)
    return withArrays<HostPlan>(form, Object.fromEntries(await Promise.all(read)))
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
    const { arrays, form } = splitArrays(data)
    const elements = planElements(form)
    const copies = makeArrays(runtime, elements)
    const encoder = runtime.device.createCommandEncoder()
    for (const [name, { buffer, offsetBytes }] of Object.entries(arrays)) {
      encoder.copyBufferToBuffer(buffer, offsetBytes, copies[name]!.buffer, 0, 4 * elements[name]!)
    }
    runtime.device.queue.submit([encoder.finish()])
    return new PlanView(runtime, method, withArrays<PlanData>(form, copies), shape, causal, undefined, copies)
  }

  dispose(): void {
    if (!this.owned || this.#disposed) return
    this.#disposed = true
    for (const { buffer } of Object.values(this.owned)) buffer.destroy()
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

type StoredPlan = Exclude<PlanData, { kind: 'dense' }>

/** A plan's arrays, on the GPU or the host, apart from its kind and geometry. */
function splitArrays(plan: StoredPlan): { form: PlanForm; arrays: Record<string, BufferSlice> }
function splitArrays(plan: HostPlan): { form: PlanForm; arrays: Record<string, Uint32Array | Int32Array> }
function splitArrays(plan: StoredPlan | HostPlan): { form: PlanForm; arrays: Record<string, unknown> } {
  const names = {
    block: ['bitmap'],
    stripe: ['counts', 'indices'],
    'variable-block': ['bitmap', 'queryStarts', 'keyStarts'],
  }
  const { permutation, ...rest } = plan as typeof plan & { permutation?: PlanPermutation | HostPermutation }
  const entries = Object.entries(rest)
  const isArray = (name: string) => names[plan.kind].includes(name)
  const { queries, keys, ...order } = permutation ?? ({} as Partial<PlanPermutation>)
  return {
    form: {
      ...Object.fromEntries(entries.filter(([name]) => !isArray(name))),
      ...(permutation && { permutation: order }),
    } as unknown as PlanForm,
    arrays: {
      ...Object.fromEntries(entries.filter(([name]) => isArray(name))),
      ...(permutation && { 'permutation.queries': queries, 'permutation.keys': keys }),
    },
  }
}

function withArrays<P extends PlanData | HostPlan>(form: PlanForm, arrays: Readonly<Record<string, unknown>>): P {
  const { 'permutation.queries': queries, 'permutation.keys': keys, ...own } = arrays
  const order = 'permutation' in form ? { permutation: { ...form.permutation, queries, keys } } : {}
  return { ...form, ...own, ...order } as unknown as P
}

/** All blocks that hold a visible pair. */
function fullPlan(geometry: PlanGeometry): HostPlan {
  const plan = { kind: 'block', ...geometry, blockQ: 128, blockK: 128 } as const
  const { queryBlocks, wordsPerRow } = blockGrid(plan)
  const bitmap = new Uint32Array(planElements(plan).bitmap)
  for (let row = 0; row < geometry.batch * geometry.queryHeads * queryBlocks; row++) {
    const lastRow = Math.min(((row % queryBlocks) + 1) * plan.blockQ, geometry.queryLength) - 1
    const lastKey = lastVisibleKey(geometry, lastRow)
    for (let c = 0; c * plan.blockK <= lastKey; c++) bitmap[row * wordsPerRow + (c >> 5)]! |= 1 << (c & 31)
  }
  return { ...plan, bitmap }
}
