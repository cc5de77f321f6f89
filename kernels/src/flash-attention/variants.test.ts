import { expect, test } from 'vitest'
import { compileErrors } from '../shared/test-compile.js'
import { defaultVariant, emitVariant, type FlashCall, fitsDevice, flashVariants, variantName } from './variants.js'

const limits = { maxComputeInvocationsPerWorkgroup: 256, maxComputeWorkgroupSizeX: 256 }
const device = (maxComputeWorkgroupStorageSize: number) =>
  ({ device: { limits: { ...limits, maxComputeWorkgroupStorageSize } } }) as never
const square = { syntax: 'template', M: 16, N: 16, K: 16 } as const

const calls = [8, 64, 80, 128, 256].flatMap((headDim) =>
  (['f32', 'f16'] as const).map((dtype): FlashCall => ({ headDim, dtype, causal: true })),
)

test.each(['portable', 'f16', 'matrix'] as const)(
  'variants of the tier %s: the default first, each compiles',
  async (tier) => {
    const codes = new Map<string, string>()
    for (const call of calls) {
      const variants = flashVariants({ tier }, call)
      const names = variants.map(variantName)
      expect(names[0]).toBe(variantName(defaultVariant({ tier }, call)))
      expect(new Set(names).size).toBe(names.length)
      // A tuning table takes names up to 1000.
      for (const name of names) expect(name.length).toBeLessThanOrEqual(500)
      // Few enough to be timed in two seconds, more than one to choose from.
      expect(names.length).toBeGreaterThan(1)
      expect(names.length).toBeLessThanOrEqual(24)
      for (const variant of variants) {
        for (const plan of ['block', 'stripe'] as const) {
          const sources = emitVariant({ subgroupMatrix: square }, variant, { ...call, plan })
          for (const source of sources) {
            // What NVIDIA's driver offers: devices with less leave some out.
            expect(fitsDevice(device(49152), source), `${variantName(variant)}, head_dim ${call.headDim}`).toBe(true)
            codes.set(source.code, variantName(variant))
          }
        }
      }
    }
    const errors = await compileErrors([...codes.keys()])
    expect([...codes.values()].filter((_, i) => errors[i]!.length > 0)).toEqual([])
  },
)

test('the defaults fit the default limits of WebGPU, except on matrices', () => {
  for (const tier of ['portable', 'f16'] as const) {
    for (const call of calls) {
      const sources = emitVariant({ subgroupMatrix: undefined }, defaultVariant({ tier }, call), {
        ...call,
        plan: 'block',
      })
      for (const source of sources) expect(fitsDevice(device(16384), source)).toBe(true)
    }
  }
})
