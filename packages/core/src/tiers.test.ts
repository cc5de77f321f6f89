import { describe, expect, test } from 'vitest'
import {
  chooseTier,
  implementedTiers,
  knowsMatrixSyntax,
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
  return reportTiers({ features: new Set(features) as unknown as GPUSupportedFeatures }, info)
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

  test('matrix needs a usable shape, not only the feature', () => {
    const features = [...f16, subgroupMatrixFeature]
    expect(offered(reports(features, [shape(16)]))).toEqual(['matrix', 'f16', 'portable'])
    expect(offered(reports(features, [shape(8), shape(16)]))).toEqual(['matrix', 'f16', 'portable'])
    expect(offered(reports(features, [shape(8)]))).toEqual(['f16', 'portable'])
    expect(offered(reports(features, [{ ...shape(16), resultComponentType: 'f16' }]))).toEqual(['f16', 'portable'])
    expect(offered(reports(features, []))).toEqual(['f16', 'portable'])
    expect(offered(reports(features))).toEqual(['f16', 'portable'])
    expect(offered(reports(features, [shape(16, 'f32')]))).toEqual(['f16', 'portable'])
    expect(offered(reports(features, [{ ...shape(16), K: 8 }]))).toEqual(['f16', 'portable'])
    expect(offered(reports([subgroupMatrixFeature], [shape(16)]))).toEqual(['portable'])
  })

  test('matrix needs a compiler that knows its syntax', async () => {
    const asked: string[] = []
    const device = (features: string[], error: GPUError | null) =>
      ({
        features: new Set(features),
        pushErrorScope: () => {},
        createShaderModule: ({ code }: GPUShaderModuleDescriptor) => void asked.push(code),
        popErrorScope: async () => error,
      }) as unknown as GPUDevice
    const features = [...f16, subgroupMatrixFeature]
    expect(await knowsMatrixSyntax(device(f16, null))).toBe(false)
    expect(asked).toEqual([]) // nothing to compile: the directives alone would be errors
    expect(await knowsMatrixSyntax(device(features, {} as GPUError))).toBe(false)
    expect(await knowsMatrixSyntax(device(features, null))).toBe(true)
    expect(asked[0]).toContain('subgroupMatrixLoad<')
    const info = { subgroupMatrixConfigs: [shape(16)], subgroupMinSize: 32, subgroupMaxSize: 32 }
    const all = reportTiers({ features: new Set(features) as never }, info as never, false)
    expect(offered(all)).toEqual(['f16', 'portable'])
    expect(all[0]!.missing).toEqual(['the syntax of subgroup matrices with majorness as a template parameter'])
  })

  test('matrix needs subgroups of one size', () => {
    const features = [...f16, subgroupMatrixFeature]
    const all = reports(features, [shape(16)], { subgroupMinSize: 8, subgroupMaxSize: 32 })
    expect(offered(all)).toEqual(['f16', 'portable'])
    expect(all[0]!.missing).toEqual(['subgroups of 32 lanes each'])
    expect(offered(reports(features, [shape(16)], { subgroupMinSize: 32, subgroupMaxSize: 64 }))).not.toContain(
      'matrix',
    )
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
