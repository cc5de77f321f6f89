import type { Dispatch, KernelSource } from './dispatch.js'
import {
  type AttentionConfig,
  type AttentionFrame,
  type AttentionTensors,
  blockGrid,
  defineMethod,
  type MethodFactory,
  type OwnedTensor,
  type PlanData,
  type Runtime,
  type TuningEntry,
} from './index.js'

/*
 * For the tests of this package: a method of three small kernels that uses everything the runtime offers (a plan,
 * scratch, uniforms, many dispatches) and whose result is known without computing attention.
 */

const block = 64

/** plan: every word of the bitmap is the first element of q, as an integer. */
const markBlocks: KernelSource = {
  label: 'mark-blocks',
  code: `
    @group(0) @binding(0) var<storage, read> q: array<f32>;
    @group(0) @binding(1) var<storage, read_write> bitmap: array<u32>;
    @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
      if (id.x < arrayLength(&bitmap)) { bitmap[id.x] = u32(q[0]); }
    }`,
  bindings: ['read', 'read_write'],
  workgroupSize: 64,
  workgroupBytes: 0,
}

/** attend, first: scratch = factor · q. */
const scaleQueries: KernelSource = {
  label: 'scale-queries',
  code: `
    @group(0) @binding(0) var<uniform> u: vec4u; // count, bits of the factor
    @group(0) @binding(1) var<storage, read> q: array<f32>;
    @group(0) @binding(2) var<storage, read_write> scaled: array<f32>;
    @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
      if (id.x < u.x) { scaled[id.x] = q[id.x] * bitcast<f32>(u.y); }
    }`,
  bindings: ['uniform', 'read', 'read_write'],
  workgroupSize: 64,
  workgroupBytes: 0,
}

/** attend, then one dispatch a head: out = scratch, lse = first word of the plan. */
const copyHead: KernelSource = {
  label: 'copy-head',
  code: `
    @group(0) @binding(0) var<uniform> u: vec4u; // first row, rows, head_dim
    @group(0) @binding(1) var<storage, read> scaled: array<f32>;
    @group(0) @binding(2) var<storage, read> bitmap: array<u32>;
    @group(0) @binding(3) var<storage, read_write> out: array<f32>;
    @group(0) @binding(4) var<storage, read_write> lse: array<f32>;
    @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
      if (id.x >= u.y) { return; }
      let row = u.x + id.x;
      for (var d = 0u; d < u.z; d++) { out[row * u.z + d] = scaled[row * u.z + d]; }
      lse[row] = f32(bitmap[0]);
    }`,
  bindings: ['uniform', 'read', 'read', 'read_write', 'read_write'],
  workgroupSize: 64,
  workgroupBytes: 0,
}

/** Calls that programs of `scaledCopy` received, by name. */
export const programCalls: string[] = []

/**
 * out = factor · q and lse = the first word of the plan, which is the first element of q. Tensors are contiguous and
 * start their buffers. Each head is a dispatch of one million operations.
 */
export const scaledCopy: MethodFactory<{ readonly factor: number }> = defineMethod<{
  readonly factor: number
}>({
  id: 'scaled-copy',
  title: 'Scaled copy',
  phase: 'any',
  summary: 'For the tests of the runtime.',
  citation: { title: 'None', authors: 'Nobody', year: 2026, url: 'https://example.org' },
  options: { factor: { type: 'number', default: 2, description: 'Multiplies q.' } },
  capabilities: { causal: [false, true], queryLength: 'any', dtypes: ['f32'], headDim: { multipleOf: 8, max: 64 } },
  neutral: {},
  scaled: () => ({}),
  async create(runtime, _config, { factor }) {
    const [mark, scale, copy] = await Promise.all([
      runtime.kernel(markBlocks),
      runtime.kernel(scaleQueries),
      runtime.kernel(copyHead),
    ])
    const uniform = (...words: number[]) => runtime.uniforms.get(Uint32Array.from(words))
    const bind = ({ buffer }: { buffer: GPUBuffer }) => ({ buffer, offsetBytes: 0, sizeBytes: buffer.size })
    return {
      plan(frame) {
        const { batch, queryHeads, queryLength, keyLength, causal } = frame
        const geometry = { batch, queryHeads, queryLength, keyLength, causal, blockQ: block, blockK: block }
        const { queryBlocks, wordsPerRow } = blockGrid(geometry)
        const words = batch * queryHeads * queryBlocks * wordsPerRow
        const bitmap = frame.planBuffer(words * 4)
        const dispatch: Dispatch = {
          kernel: mark,
          bindings: [bind(frame.q), bitmap],
          workgroups: [Math.ceil(bitmap.sizeBytes / 256), 1, 1],
          cost: { operations: words, bytes: words * 4 },
        }
        return { plan: { kind: 'block', ...geometry, bitmap }, dispatches: [dispatch] }
      },
      attend(frame: AttentionFrame, plan: PlanData) {
        const rows = frame.batch * frame.queryHeads * frame.queryLength
        const count = rows * frame.headDim
        const scaled = frame.scratch(count * 4)
        const bitmap = plan.kind === 'block' ? plan.bitmap : frame.scratch(16)
        const bits = new Uint32Array(Float32Array.of(factor).buffer)[0]!
        const dispatches: Dispatch[] = [
          {
            kernel: scale,
            bindings: [uniform(count, bits), bind(frame.q), scaled],
            workgroups: [Math.ceil(count / 64), 1, 1],
            cost: { operations: count, bytes: count * 8 },
          },
        ]
        for (let head = 0; head < frame.batch * frame.queryHeads; head++) {
          dispatches.push({
            kernel: copy,
            bindings: [
              uniform(head * frame.queryLength, frame.queryLength, frame.headDim),
              scaled,
              bitmap,
              bind(frame.out),
              bind(frame.lse),
            ],
            workgroups: [Math.ceil(frame.queryLength / 64), 1, 1],
            cost: { operations: 1e6, bytes: frame.queryLength * frame.headDim * 8 },
          })
        }
        return dispatches
      },
      reset: () => void programCalls.push('reset'),
      dispose: () => void programCalls.push('dispose'),
    }
  },
})

export const config: AttentionConfig = { queryHeads: 4, headDim: 8, dtype: 'f32', causal: false }

/** q holds first, first + 1, …; k and v are zero. Two batch entries, lengths 10 and 20 unless given. */
export function makeTensors(
  runtime: Runtime,
  first = 1,
  { batch = 2, queryLength = 10, keyLength = 20 } = {},
): { q: OwnedTensor; k: OwnedTensor; v: OwnedTensor } {
  const shape = [batch, 4, queryLength, 8]
  const values = Float32Array.from({ length: batch * 4 * queryLength * 8 }, (_, i) => first + i)
  const [k, v] = [0, 1].map(() => runtime.tensor('f32', [batch, 4, keyLength, 8]))
  return { q: runtime.tensor('f32', shape, values), k: k!, v: v! }
}

/** What `scaledCopy` gives for `makeTensors(runtime, first)`. */
export function expectedResult(first: number, factor: number, rows = 80): { out: number[]; lse: number[] } {
  return {
    out: Array.from({ length: rows * 8 }, (_, i) => (first + i) * factor),
    lse: new Array<number>(rows).fill(first),
  }
}

export function disposeAll(tensors: AttentionTensors): void {
  for (const name of ['q', 'k', 'v', 'out', 'lse'] as const) tensors[name]?.buffer.destroy()
}

/** Counts what happens on a device until it is disposed of: live buffers, maps and submits. */
export function watch(device: GPUDevice): {
  readonly live: () => number
  readonly counts: { created: number; maps: number; submits: number }
  /** Called at each submit, before it. */
  onSubmit?: (submits: number) => void
  [Symbol.dispose](): void
} {
  const live = new Set<GPUBuffer>()
  const counts = { created: 0, maps: 0, submits: 0 }
  const { createBuffer, queue } = device
  const { submit } = queue
  device.createBuffer = (descriptor) => {
    const buffer = createBuffer.call(device, descriptor)
    const { destroy, mapAsync } = buffer
    counts.created++
    live.add(buffer)
    buffer.destroy = () => {
      live.delete(buffer)
      return destroy.call(buffer)
    }
    buffer.mapAsync = (...args) => {
      counts.maps++
      return mapAsync.apply(buffer, args)
    }
    return buffer
  }
  queue.submit = (buffers) => {
    counts.submits++
    watcher.onSubmit?.(counts.submits)
    return submit.call(queue, buffers)
  }
  const watcher: ReturnType<typeof watch> = {
    live: () => live.size,
    counts,
    [Symbol.dispose]: () => {
      device.createBuffer = createBuffer
      queue.submit = submit
    },
  }
  return watcher
}

/** A well-formed result of tuning. */
export function tuningEntry(): TuningEntry {
  return {
    kernel: 'flash-attention',
    adapter: { vendor: 'v', architecture: 'a', device: 'd', implementation: 'dawn 1' },
    tier: 'portable',
    dtype: 'f32',
    headDim: 64,
    causal: true,
    variant: 'fast',
    sources: '1f',
    operationsPerSecond: 1e12,
    timeRatio: 0.8,
  }
}
