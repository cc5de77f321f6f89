import type { Kernel, KernelSource, Runtime, SubgroupMatrix } from '@sparse-attention/core'
import type { GpuTimer } from './gpu-timer.js'
import { chains, multiplyAddSource } from './multiply-add.js'
import { callsPerSample } from './samples.js'

/** What the device can do at most, measured in the run in which it is compared with. */
export interface Ceilings {
  /** Of a kernel that copies: bytes read and written per second. */
  readonly bytesPerSecond: number
  /** Of a kernel of independent multiply-adds on f32, each counted as two. */
  readonly f32OperationsPerSecond: number
  /** Of a kernel of independent products of f16 matrices with f32 results; null where the device offers no such matrices. */
  readonly matrixOperationsPerSecond: number | null
}

const copySource: KernelSource = {
  label: 'copy',
  code: `\
// Copies 16 bytes an invocation: as many bytes a second as any kernel can hope to move.
@group(0) @binding(0) var<storage, read> source: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> target_: array<vec4<f32>>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) { target_[id.x] = source[id.x]; }
`,
  bindings: ['read', 'read_write'],
  workgroupSize: 256,
  workgroupBytes: 0,
}

const LANES = 32

/** Products of matrices in `chains` independent chains, as a tensor core likes them: operands and results in registers. */
export function matrixProductSource({ syntax, M, N, K }: SubgroupMatrix, steps: number): KernelSource {
  const each = Array.from({ length: chains }, (_, i) => i)
  const template = syntax === 'template'
  const store = (i: number) =>
    template
      ? `subgroupMatrixStore<row_major>(&result[subgroup], 0u, x${i}, ${N / 4}u);`
      : `subgroupMatrixStore(&result[subgroup], 0u, x${i}, false, ${N}u);`
  const [element, units] = template ? ['vec4<u32>', (M * N) / 4] : ['f32', M * N]
  return {
    label: 'matrix-product',
    code: `\
// ${chains} chains of ${steps} products of matrices a subgroup, and nothing else. The numbers stay small.
enable f16;
enable subgroups;
enable chromium_experimental_subgroup_matrix;
${template ? '' : 'diagnostic(off, chromium.subgroup_matrix_uniformity);\n'}
alias Left = subgroup_matrix_left<f16, ${K}, ${M}>;
alias Right = subgroup_matrix_right<f16, ${N}, ${K}>;
alias Result = subgroup_matrix_result<f32, ${N}, ${M}>;

@group(0) @binding(0) var<storage, read> factors: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> sums: array<vec4<f32>>;
var<workgroup> result: array<array<${element}, ${units}>, ${256 / LANES}>;

@compute @workgroup_size(256)
fn main(
  @builtin(global_invocation_id) id: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
  @builtin(subgroup_id) subgroup: u32,
) {
  let left = Left(f16(factors[0].x / 1024.0));
  let right = Right(f16(factors[1].x / 1024.0));
  ${each.map((i) => `var x${i} = Result();`).join(' ')}
  for (var step = 0u; step < ${steps}u; step++) {
    ${each.map((i) => `x${i} = subgroupMatrixMultiplyAccumulate(left, right, x${i});`).join('\n    ')}
  }
  var sum = 0.0;
  ${each.map((i) => `${store(i)} workgroupBarrier(); sum += ${template ? 'bitcast<f32>(result[local / LANES_U][0].x)' : 'result[local / LANES_U][0]'}; workgroupBarrier();`).join('\n  ')}
  sums[id.x] = vec4<f32>(sum);
}
`.replaceAll('LANES_U', `${LANES}u`),
    bindings: ['read', 'read_write'],
    workgroupSize: 256,
    workgroupBytes: (256 / LANES) * M * N * 4,
  }
}

/** The fastest of several runs of each kernel: what stood in its way was not the device. */
const attempts = 10

export async function measureCeilings(
  runtime: Runtime,
  timer: GpuTimer | undefined,
  signal: AbortSignal,
): Promise<Ceilings> {
  const { software } = runtime
  const copied = software ? 2 ** 22 : 2 ** 27
  const copy = await runtime.kernel(copySource)
  const copySeconds = await fastest(runtime, timer, signal, copy, copied, copied / 16 / 256)
  const [steps, workgroups] = software ? [64, 16] : [2048, 4096]
  const multiplyAdd = await runtime.kernel(multiplyAddSource(steps))
  const invocations = workgroups * 256
  const seconds = await fastest(runtime, timer, signal, multiplyAdd, invocations * 16, workgroups)
  return {
    bytesPerSecond: (2 * copied) / copySeconds,
    f32OperationsPerSecond: (2 * 4 * chains * steps * invocations) / seconds,
    matrixOperationsPerSecond: await measureMatrices(runtime, timer, signal),
  }
}

async function measureMatrices(
  runtime: Runtime,
  timer: GpuTimer | undefined,
  signal: AbortSignal,
): Promise<number | null> {
  const { subgroupMatrix } = runtime
  if (subgroupMatrix === undefined) return null
  const [steps, workgroups] = [2048, 4096]
  const kernel = await runtime.kernel(matrixProductSource(subgroupMatrix, steps))
  const seconds = await fastest(runtime, timer, signal, kernel, workgroups * 256 * 16, workgroups)
  const { M, N, K } = subgroupMatrix
  return (2 * M * N * K * chains * steps * workgroups * (256 / LANES)) / seconds
}

async function fastest(
  runtime: Runtime,
  timer: GpuTimer | undefined,
  signal: AbortSignal,
  kernel: Kernel,
  bytes: number,
  workgroups: number,
): Promise<number> {
  const { device } = runtime
  using source = runtime.tensor('f32', [bytes / 4])
  using target = runtime.tensor('f32', [bytes / 4])
  device.queue.writeBuffer(source.buffer, 0, new Float32Array([...Array(4).fill(0.5), ...Array(4).fill(0.25)]))
  const layout = kernel.bindGroupLayout
  const entries = [source, target].map(({ buffer }, binding) => ({ binding, resource: { buffer } }))
  const group = device.createBindGroup({ layout, entries })
  const record = (encoder: GPUCommandEncoder, calls: number) => {
    const pass = encoder.beginComputePass()
    pass.setPipeline(kernel.pipeline)
    pass.setBindGroup(0, group)
    for (let i = 0; i < calls; i++) pass.dispatchWorkgroups(workgroups)
    pass.end()
  }
  const sample = async (calls: number): Promise<number> => {
    signal.throwIfAborted()
    if (timer) return (await timer.time((nextEncoder) => record(nextEncoder(), calls))) / calls
    await runtime.idle()
    const start = performance.now()
    const encoder = device.createCommandEncoder()
    record(encoder, calls)
    device.queue.submit([encoder.finish()])
    await runtime.idle()
    return (performance.now() - start) / calls
  }
  await sample(1)
  await timer?.warmUp(signal)
  const calls = runtime.software ? 1 : callsPerSample(await sample(1))
  let best = Number.POSITIVE_INFINITY
  for (let i = 0; i < attempts; i++) {
    const ms = await sample(calls)
    if (ms > 0) best = Math.min(best, ms)
  }
  return best / 1000
}
