import {
  type AttentionShape,
  floatsToHalves,
  type KernelSource,
  type OwnedTensor,
  Random,
  type Runtime,
  type Tensor,
} from '@sparse-attention/core'

/** Tensors of a call in f16, contiguous [B, H, L, D], and its outputs. */
export interface CallTensors extends Disposable {
  readonly shape: AttentionShape
  readonly q: Tensor
  readonly k: Tensor
  readonly v: Tensor
  readonly out: Tensor
  readonly lse: Tensor
}

/** Runs of consecutive keys that every query attends to: what block-sparse attention is made for. */
export interface Bands {
  readonly count: number
  /** In keys. */
  readonly width: number
}

/**
 * Seeded normal numbers, made on the device: a long prompt has 4·10⁸ of them, which takes the host minutes. With `bands`, some
 * runs of keys, the first of them at key 0, have a logit about 10 above the others for all queries; the rest is spread widely.
 */
export async function makeCallTensors(
  runtime: Runtime,
  shape: AttentionShape,
  seed: number,
  bands?: Bands,
): Promise<CallTensors> {
  const { batch, queryHeads, kvHeads, queryLength, keyLength, headDim } = shape
  const owned: OwnedTensor[] = []
  const dispose = () => {
    for (const tensor of owned) tensor.dispose()
  }
  const make = (dtype: 'f16' | 'f32', sizes: readonly number[]) => {
    const tensor = runtime.tensor(dtype, sizes)
    owned.push(tensor)
    return tensor
  }
  try {
    const random = new Random(seed)
    // Of length √head_dim, so that a key that points there has the same logit for every query.
    const direction = bands ? unitVector(random, headDim).map((x) => x * Math.sqrt(headDim)) : new Float32Array(headDim)
    const q = make('f16', [batch, queryHeads, queryLength, headDim])
    const k = make('f16', [batch, kvHeads, keyLength, headDim])
    const v = make('f16', [batch, kvHeads, keyLength, headDim])
    for (const [i, tensor] of [q, k, v].entries())
      await fillNormal(runtime, tensor, { seed: 3 * seed + i, ...(tensor === q && { mean: direction }) })
    if (bands) plantBands(runtime, random, k, direction, bands)
    const out = make('f16', [batch, queryHeads, queryLength, headDim])
    const lse = make('f32', [batch, queryHeads, queryLength])
    return { shape, q, k, v, out, lse, [Symbol.dispose]: dispose }
  } catch (error) {
    dispose()
    throw error
  }
}

const WORKGROUPS = 2048

const gaussianSource: KernelSource = {
  label: 'gaussian',
  code: `\
// Fills f16[rows, head_dim] with normal numbers around a mean of each column, by Box and Muller from hashes of seed and place.
struct Fill { seed: u32, words: u32, row_words: u32, run_rows: u32, centres: u32, centre_seed: u32, scale: f32, unused: u32 }
@group(0) @binding(0) var<uniform> u: Fill;
@group(0) @binding(1) var<storage, read> mean: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read_write> x: array<u32>; // two halves each

fn hash(value: u32) -> u32 { // pcg
  let state = value * 747796405u + 2891336453u;
  let word = ((state >> ((state >> 28u) + 4u)) ^ state) * 277803737u;
  return (word >> 22u) ^ word;
}

fn normals(place: u32, seed: u32) -> vec2<f32> {
  // Hashed before the seed comes in: else tensors would hold each other's rows in another order.
  let first = hash(hash(2u * place) ^ seed);
  let second = hash(hash(2u * place + 1u) ^ seed);
  let radius = sqrt(-2.0 * log((f32(first >> 8u) + 0.5) / 16777216.0));
  let angle = 6.2831853 * f32(second >> 8u) / 16777216.0;
  return radius * vec2<f32>(cos(angle), sin(angle));
}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  for (var i = id.x; i < u.words; i += ${WORKGROUPS * 256}u) {
    let column = i % u.row_words;
    var value = normals(i, u.seed);
    if (u.run_rows > 0u) {
      let centre = hash(i / u.row_words / u.run_rows) % u.centres;
      value = 0.6 * value + 0.8 * normals(centre * u.row_words + column, u.centre_seed);
    }
    x[i] = pack2x16float(u.scale * (value + mean[column]));
  }
}
`,
  bindings: ['uniform', 'read', 'read_write'],
  workgroupSize: 256,
  workgroupBytes: 0,
}

/** Rows that look alike, as neighbours in a text or a video do: 0.8 of a centre that they share, and 0.6 of each one's own. */
export interface Alike {
  /** Consecutive rows that share a centre. */
  readonly rows: number
  /** Centres that there are; each run has one of them. */
  readonly centres: number
  /** Tensors filled with the same have the same centres, in the same places. */
  readonly seed: number
}

export interface NormalOptions {
  readonly seed: number
  /** Of each column. Default: zeros. */
  readonly mean?: Float32Array
  /** Default 1. */
  readonly scale?: number
  readonly alike?: Alike
}

/** Fills an f16 tensor [..., D], contiguous, with seeded normal numbers, on the device. */
export async function fillNormal(
  runtime: Runtime,
  { buffer, shape }: OwnedTensor,
  { seed, mean = new Float32Array(shape.at(-1)!), scale = 1, alike }: NormalOptions,
): Promise<void> {
  const { device } = runtime
  const { pipeline, bindGroupLayout } = await runtime.kernel(gaussianSource)
  const words = shape.reduce((a, b) => a * b, 1) / 2
  using means = runtime.tensor('f32', [mean.length], mean)
  const spread = (value: number) => Math.imul(value + 1, 0x9e3779b9) >>> 0
  const fill = Uint32Array.of(spread(seed), words, mean.length / 2, 0, 1, 0, 0, 0)
  if (alike) fill.set([alike.rows, alike.centres, spread(alike.seed)], 3)
  new Float32Array(fill.buffer)[6] = scale
  const uniforms = runtime.uniforms.get(fill)
  const entries = [uniforms, { buffer: means.buffer }, { buffer }].map((slice, binding) => ({
    binding,
    resource: 'sizeBytes' in slice ? { buffer: slice.buffer, offset: slice.offsetBytes, size: slice.sizeBytes } : slice,
  }))
  const encoder = device.createCommandEncoder()
  const pass = encoder.beginComputePass()
  pass.setPipeline(pipeline)
  pass.setBindGroup(0, device.createBindGroup({ layout: bindGroupLayout, entries }))
  pass.dispatchWorkgroups(Math.min(WORKGROUPS, Math.ceil(words / 256)))
  pass.end()
  device.queue.submit([encoder.finish()])
}

function plantBands(
  { device }: Runtime,
  random: Random,
  { buffer, shape }: OwnedTensor,
  direction: Float32Array,
  { count, width }: Bands,
): void {
  const [batch, heads, length, headDim] = shape as [number, number, number, number]
  const row = floatsToHalves(direction.map((x) => (10 * x) / Math.sqrt(headDim)))
  for (let head = 0; head < batch * heads; head++) {
    for (let band = 0; band < count; band++) {
      const first = band === 0 ? 0 : random.integer(length)
      const keys = Math.min(width, length - first)
      const halves = new Uint16Array(keys * headDim)
      for (let key = 0; key < keys; key++) halves.set(row, key * headDim)
      device.queue.writeBuffer(buffer, (head * length + first) * headDim * 2, halves)
    }
  }
}

function unitVector(random: Random, size: number): Float32Array {
  const values = Float32Array.from({ length: size }, () => random.fraction() + random.fraction() - 1)
  const norm = Math.hypot(...values)
  return values.map((x) => x / norm)
}
