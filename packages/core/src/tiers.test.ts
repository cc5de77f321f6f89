import { describe, expect, test } from 'vitest'
import {
  chooseTier,
  findMatrixSyntax,
  implementedTiers,
  matrixShape,
  reportTiers,
  subgroupMatrixFeature,
  type TierReport,
  tiers,
} from './tiers.js'

function reports(
  features: string[],
  matrixShapes?: object[],
  lanes = { subgroupMinSize: 32, subgroupMaxSize: 32 },
): TierReport[] {
  const info = { subgroupMatrixConfigs: matrixShapes, ...lanes } as unknown as GPUAdapterInfo
  return reportTiers({ features: new Set(features) as unknown as GPUSupportedFeatures }, info, 'template')
}

const offered = (all: readonly TierReport[]) => all.filter((r) => r.offered).map((r) => r.tier)
const f16 = ['shader-f16', 'subgroups']
const shape = (size: number, componentType = 'f16') => ({
  componentType,
  resultComponentType: 'f32',
  M: size,
  N: size,
  K: size,
})

describe('what a device offers', () => {
  test('any device offers the portable tier, and the report says what the others lack', () => {
    const all = reports([])
    expect(all.map((r) => r.tier)).toEqual(tiers)
    expect(offered(all)).toEqual(['portable'])
    expect(all.find((r) => r.tier === 'f16')!.missing).toEqual(['feature shader-f16', 'feature subgroups'])
    expect(all.find((r) => r.tier === 'portable')!.missing).toEqual([])
  })

  test('f16 needs both features', () => {
    expect(offered(reports(['shader-f16']))).toEqual(['portable'])
    expect(offered(reports(['subgroups']))).toEqual(['portable'])
    expect(offered(reports(f16))).toEqual(['f16', 'portable'])
  })

  const matrix = [...f16, subgroupMatrixFeature]

  test('matrix needs a usable shape, not only the feature', () => {
    expect(offered(reports(matrix, [shape(16)]))).toEqual(['matrix', 'f16', 'portable'])
    expect(offered(reports(matrix, [shape(8)]))).toEqual(['matrix', 'f16', 'portable'])
    expect(offered(reports(matrix, [{ ...shape(16), resultComponentType: 'f16' }]))).toEqual(['f16', 'portable'])
    expect(offered(reports(matrix, []))).toEqual(['f16', 'portable'])
    expect(offered(reports(matrix))).toEqual(['f16', 'portable'])
    expect(offered(reports(matrix, [shape(16, 'f32')]))).toEqual(['f16', 'portable'])
    expect(offered(reports(matrix, [{ ...shape(16), M: 8 }]))).toEqual(['f16', 'portable'])
    expect(offered(reports([subgroupMatrixFeature], [shape(16)]))).toEqual(['portable'])
    expect(reports(matrix, [])[0]!.missing).toEqual([
      'f16 matrices of 16×16×16 or 16×8×16 or 16×8×8 or 8×8×8 with f32 results',
    ])
  })

  test('of several shapes the largest is taken, whatever their order', () => {
    const best = (...shapes: object[]) => matrixShape({ subgroupMatrixConfigs: shapes } as never)
    const narrow = { ...shape(16), N: 8 }
    expect(best(shape(8), narrow, shape(16))).toEqual({ M: 16, N: 16, K: 16 })
    expect(best(shape(8), { ...narrow, K: 8 }, narrow)).toEqual({ M: 16, N: 8, K: 16 })
    expect(best(shape(8), { ...narrow, K: 8 })).toEqual({ M: 16, N: 8, K: 8 })
    expect(best({ ...shape(16), resultComponentType: 'f16' }, shape(8))).toEqual({ M: 8, N: 8, K: 8 })
    expect(best({ ...shape(16), K: 32 })).toBe(undefined)
    expect(matrixShape(undefined)).toBe(undefined)
  })

  test('matrix needs a compiler with a syntax that is known: the present one, or the one before', async () => {
    const asked: string[] = []
    let error: GPUError | null
    const device = (features: string[], accepts: (code: string) => boolean) =>
      ({
        features: new Set(features),
        pushErrorScope: () => {},
        createShaderModule: ({ code }: GPUShaderModuleDescriptor) => {
          asked.push(code)
          error = accepts(code) ? null : ({} as GPUError)
        },
        popErrorScope: async () => error,
      }) as unknown as GPUDevice
    expect(await findMatrixSyntax(device(f16, () => true))).toBe(undefined)
    expect(asked).toEqual([]) // nothing to compile: the directives alone would be errors
    expect(await findMatrixSyntax(device(matrix, () => true))).toBe('template')
    expect(asked.length).toBe(1)
    expect(await findMatrixSyntax(device(matrix, (code) => !code.includes('row_major')))).toBe('argument')
    expect(await findMatrixSyntax(device(matrix, () => false))).toBe(undefined)
    const info = { subgroupMatrixConfigs: [shape(16)], subgroupMinSize: 32, subgroupMaxSize: 32 }
    const report = (syntax?: 'argument') => reportTiers({ features: new Set(matrix) as never }, info as never, syntax)
    expect(offered(report('argument'))).toEqual(['matrix', 'f16', 'portable'])
    expect(offered(report())).toEqual(['f16', 'portable'])
    expect(report()[0]!.missing).toEqual(['a syntax of subgroup matrices that this version knows'])
  })

  test('matrix needs subgroups of one size', () => {
    const all = reports(matrix, [shape(16)], { subgroupMinSize: 8, subgroupMaxSize: 32 })
    expect(offered(all)).toEqual(['f16', 'portable'])
    expect(all[0]!.missing).toEqual(['subgroups of 32 lanes each'])
    expect(offered(reports(matrix, [shape(16)], { subgroupMinSize: 32, subgroupMaxSize: 64 }))).not.toContain('matrix')
  })
})

describe('the choice', () => {
  const everything = tiers.map((tier) => ({ tier, offered: true, implemented: true, missing: [] }))

  test('auto takes the best that is offered and has kernels', () => {
    expect(chooseTier(everything, 'auto')).toBe('matrix')
    expect(
      chooseTier(
        everything.map((r) => ({ ...r, implemented: r.tier !== 'matrix' })),
        'auto',
      ),
    ).toBe('f16')
    expect(
      chooseTier(
        everything.map((r) => ({ ...r, offered: r.tier === 'portable' })),
        'auto',
      ),
    ).toBe('portable')
    expect(implementedTiers).toContain(chooseTier(reports(f16), 'auto'))
  })

  test('a tier that is there can be forced', () => {
    for (const tier of tiers) expect(chooseTier(everything, tier)).toBe(tier)
  })

  test('a forced tier that the device lacks is an error that names what is missing', () => {
    expect(() => chooseTier(reports([]), 'f16')).toThrow(
      expect.objectContaining({
        code: 'TIER_UNAVAILABLE',
        where: 'tier',
        message: expect.stringContaining('feature shader-f16 and feature subgroups'),
      }),
    )
  })

  test('a forced tier that has no kernels is an error too', () => {
    const bare = everything.map((r) => ({ ...r, implemented: false }))
    expect(() => chooseTier(bare, 'matrix')).toThrow(expect.objectContaining({ code: 'TIER_UNAVAILABLE' }))
  })

  test('an unknown tier is an invalid option', () => {
    expect(() => chooseTier(everything, 'quantum' as never)).toThrow(
      expect.objectContaining({
        code: 'INVALID_OPTION',
        message: expect.stringContaining('auto, matrix, f16, portable'),
      }),
    )
  })
})
