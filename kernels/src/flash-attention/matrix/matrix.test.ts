import type {
  AttentionConfig,
  AttentionFrame,
  KernelSource,
  PlanData,
  Runtime,
  SubgroupMatrix,
} from '@sparse-attention/core'
import { beforeAll, describe, expect, test } from 'vitest'
import { create, globals } from 'webgpu'
import { compileErrors } from '../../shared/test-compile.js'
import { emitMatrix } from './emit.js'
import { chooseForm, matrixForms } from './forms.js'
import { matrixGeometries } from './geometry.js'

/** Workgroup memory of one multiprocessor of an H100, as its Vulkan driver divides it: two workgroups must fit. */
const HALF_OF_A_MULTIPROCESSOR = 24 * 1024

const plans = ['block', 'stripe', 'variable-block'] as const
const square: SubgroupMatrix = { syntax: 'template', M: 16, N: 16, K: 16 }

const cases = (headDims: readonly number[], subgroupMatrix: SubgroupMatrix) =>
  headDims.flatMap((headDim) =>
    matrixGeometries(headDim).flatMap((geometry) =>
      plans.flatMap((plan) =>
        [false, true].flatMap((causal) =>
          (plan === 'block' ? [false, true] : [false]).map((pieces) => ({
            ...{ headDim, geometry, plan, causal, pieces, subgroupMatrix },
          })),
        ),
      ),
    ),
  )

const every = cases([16, 32, 48, 64, 80, 96, 112, 128, 144, 160, 192, 256], square)

const others = (['template', 'argument'] as const).flatMap((syntax) =>
  [
    { M: 16, N: 16, K: 16 },
    { M: 16, N: 8, K: 16 },
    { M: 16, N: 8, K: 8 },
    { M: 8, N: 8, K: 8 },
  ].map((shape) => ({ syntax, ...shape })),
)

describe('the WGSL', () => {
  // Dawn without a GPU behind it: its compiler, with the diagnostics that are on by default.
  let device: GPUDevice
  beforeAll(async () => {
    Object.assign(globalThis, globals)
    const gpu = create(['backend=null', 'enable-dawn-features=allow_unsafe_apis'])
    const adapter = await gpu.requestAdapter()
    device = await adapter!.requestDevice({
      requiredFeatures: ['shader-f16', 'subgroups', 'chromium-experimental-subgroup-matrix'] as GPUFeatureName[],
    })
    keepAlive.push(gpu, adapter)
  })
  // Collecting the instance would end the process.
  const keepAlive: unknown[] = []

  test.each(every)(
    'head_dim $headDim, $geometry.rows rows $geometry.valueTiles, $plan plan, causal $causal, pieces $pieces',
    async (options) => {
      const source = emitMatrix(options)
      device.pushErrorScope('validation')
      const module = device.createShaderModule({ code: source.code })
      expect((await module.getCompilationInfo()).messages.map(({ lineNum, message }) => [lineNum, message])).toEqual([])
      // This adapter has 16 KiB of workgroup memory; its subgroups may have 128 lanes, and a workgroup must be whole ones.
      if (source.workgroupSize % 128 === 0 && source.workgroupBytes <= 16384) {
        device.createComputePipeline({ layout: 'auto', compute: { module } })
      }
      expect(await device.popErrorScope()).toBeNull()
      expect(source.workgroupBytes).toBe(declaredBytes(source))
      if (options.geometry.rows < 256 && options.headDim <= 128) {
        expect(source.workgroupBytes).toBeLessThanOrEqual(HALF_OF_A_MULTIPROCESSOR)
      }
      expect(source.workgroupSize).toBeLessThanOrEqual(256)
      expect(source.bindings.filter((kind) => kind !== 'uniform').length).toBeLessThanOrEqual(8)
    },
  )

  test.each(others)('in $syntax syntax, matrices of $M×$N×$K', async (subgroupMatrix) => {
    const sources = cases([16, 128, 144], subgroupMatrix).map(emitMatrix)
    for (const source of sources) expect(source.workgroupBytes).toBe(declaredBytes(source))
    // Matrices must be aligned, and drivers put one variable behind the other, in an order of their own.
    for (const bytes of sources.flatMap((source) => variableBytes(source))) expect(bytes % 16).toBe(0)
    const codes = sources.map(({ code }) => code)
    expect((await compileErrors(codes)).flat()).toEqual([])
    // Another front end: the path of an earlier npm webgpu, which knows only the earlier syntax.
    const earlier = process.env.SPARSE_ATTENTION_EARLIER_DAWN
    if (earlier && subgroupMatrix.syntax === 'argument')
      expect((await compileErrors(codes, earlier)).flat()).toEqual([])
  })

  test('head_dim 64 fits the default limits of WebGPU, head_dim 128 with 64 rows', () => {
    for (const plan of plans) {
      const bytes = (headDim: number, rows: number) => {
        const geometry = matrixGeometries(headDim).find((g) => g.rows === rows && g.valueTiles !== 2)!
        return emitMatrix({ headDim, geometry, plan, causal: true, subgroupMatrix: square }).workgroupBytes
      }
      expect(bytes(64, 128)).toBeLessThanOrEqual(16384)
      expect(bytes(128, 64)).toBeLessThanOrEqual(16384)
    }
  })

  test('every offset and pitch of a matrix access is a literal', () => {
    for (const options of [...every, ...cases([80], others.at(-1)!)]) {
      const { code } = emitMatrix(options)
      const accesses = code.match(/subgroupMatrix(?:Load|Store)[<(].*/g)!
      expect(accesses.length).toBeGreaterThan(0)
      for (const access of accesses) {
        expect(access).toMatch(
          options.subgroupMatrix.syntax === 'template'
            ? /Load<\w+, \w+_major>\(&[\w[\]]+, \d+u, \d+u\);$|Store<row_major>\(&scores\[subgroup\], \d+u, \w+, \d+u\);$/
            : /Load<\w+>\(&[\w[\]]+, \d+u, (true|false), \d+u\);$|Store\(&scores_f32\[subgroup\], \d+u, \w+, false, \d+u\);$/,
        )
      }
    }
  })

  test('an example to read: head_dim 64, causal', async () => {
    const { code } = emitMatrix({
      headDim: 64,
      geometry: { rows: 128, subgroupRows: 32 },
      plan: 'block',
      causal: true,
      pieces: true,
      subgroupMatrix: square,
    })
    await expect(code).toMatchFileSnapshot('../../../wgsl/flash-attention.matrix.wgsl')
  })
})

/** Bytes of each variable in workgroup memory, read off the source. */
function variableBytes({ code }: KernelSource): number[] {
  const size = (type: string): number => {
    const array = /^array<(.+), (\w+)>$/.exec(type)
    if (array) return size(array[1]!) * (array[2] === 'KEYS' ? 16 : Number(array[2]))
    return { 'vec4<u32>': 16, u32: 4, 'atomic<u32>': 4, f32: 4, f16: 2 }[type]!
  }
  return [...code.matchAll(/^var<workgroup> \w+: ([^;]+);/gm)].map(([, type]) => size(type!))
}

const declaredBytes = (source: KernelSource) => variableBytes(source).reduce((sum, bytes) => sum + bytes, 0)

describe('the choice of a form', () => {
  const runtime = (tier: string, maxComputeWorkgroupStorageSize = 49152) =>
    ({
      tier,
      subgroupMatrix: square,
      device: { limits: { maxComputeWorkgroupStorageSize } },
      kernel: async (source: KernelSource) => ({ source }),
    }) as unknown as Runtime
  const config = (headDim: number, dtype = 'f16') => ({ dtype, headDim, causal: false }) as Required<AttentionConfig>
  const rowsOf = async (...args: Parameters<typeof matrixForms>) => [
    ...new Set((await matrixForms(...args)).map(({ rows }) => rows)),
  ]

  test('there is none off the tier, for f32, and for head_dim that 16 does not divide', async () => {
    expect(await rowsOf(runtime('portable'), config(64), 'block')).toEqual([])
    expect(await rowsOf(runtime('f16'), config(64), 'block')).toEqual([])
    expect(await rowsOf(runtime('matrix'), config(64, 'f32'), 'block')).toEqual([])
    expect(await rowsOf(runtime('matrix'), config(72), 'block')).toEqual([])
    expect(await rowsOf(runtime('matrix'), config(64), 'block')).toEqual([128, 64])
  })

  test('128 rows need registers and workgroup memory, and query blocks that they divide', async () => {
    expect(await rowsOf(runtime('matrix'), config(256), 'block')).toEqual([64])
    expect(await rowsOf(runtime('matrix', 16384), config(128), 'block')).toEqual([64])
    expect(await rowsOf(runtime('matrix', 16384), config(256), 'block')).toEqual([])
    expect(await rowsOf(runtime('matrix'), config(64), 'variable-block')).toEqual([64])

    const forms = await matrixForms(runtime('matrix'), config(64), 'block')
    const chosen = (queryLength: number, plan: object) =>
      chooseForm(forms, { batch: 1, queryHeads: 8, queryLength } as AttentionFrame, plan as PlanData).rows
    expect(chosen(4096, { kind: 'dense' })).toBe(128)
    expect(chosen(2048, { kind: 'dense' })).toBe(64)
    expect(chosen(4096, { kind: 'block', blockQ: 256 })).toBe(128)
    expect(chosen(4096, { kind: 'block', blockQ: 64 })).toBe(64)

    // With head_dim 128, 64 rows have two subgroups where many workgroups share a multiprocessor, and four where few do.
    const wide = await matrixForms(runtime('matrix'), config(128), 'block')
    const subgroups = (queryLength: number, plan: object, forms = wide) => {
      const frame = { batch: 1, queryHeads: 8, queryLength } as AttentionFrame
      return chooseForm(forms, frame, plan as PlanData).kernel.source.workgroupSize / 32
    }
    expect(subgroups(2048, { kind: 'dense' })).toBe(4)
    expect(subgroups(2048, { kind: 'block', blockQ: 64 })).toBe(4)
    expect(subgroups(4096, { kind: 'block', blockQ: 64 })).toBe(2)
    const gathering = await matrixForms(runtime('matrix'), config(128), 'stripe')
    expect(subgroups(1024, { kind: 'stripe', blockQ: 64 }, gathering)).toBe(2)

    const striped = await matrixForms(runtime('matrix'), config(64), 'stripe')
    const frame = { batch: 1, queryHeads: 8, queryLength: 4096 } as AttentionFrame
    expect(chooseForm(striped, frame, { kind: 'stripe', blockQ: 192 } as PlanData).rows).toBe(64)
  })
})
