import type { TuningEntry } from '@sparse-attention/core'
import { expect, test } from 'vitest'
import { defaultVariant, flashVariants, variantName } from '../flash-attention/variants.js'
import { chooseVariant, sourcesHash, type TunedRuntime } from './choose-variant.js'
import { knownAdapters } from './known-adapters.js'

const call = { headDim: 128, dtype: 'f16', causal: false } as const
const runtime: TunedRuntime = {
  tier: 'f16',
  tuning: undefined,
  subgroupMatrix: undefined,
  identity: { vendor: 'v', architecture: 'a', device: 'd', implementation: 'dawn 1' },
}
const usual = defaultVariant(runtime, call)
const other = flashVariants(runtime, call)[3]!
const entry: TuningEntry = {
  ...call,
  kernel: 'flash-attention',
  adapter: runtime.identity,
  tier: 'f16',
  variant: variantName(other),
  sources: sourcesHash(runtime, call, other),
  operationsPerSecond: 3e12,
  timeRatio: 0.8,
}
const chosen = (...entries: TuningEntry[]) => chooseVariant({ ...runtime, tuning: { version: 1, entries } }, call)

test('a tuned variant runs, with its speed', () => {
  expect(chosen(entry)).toEqual({ variant: other, operationsPerSecond: 3e12 })
})

test.each([
  ['of another call', { headDim: 64 }],
  ['of another tier', { tier: 'portable' }],
  ['of another browser', { adapter: { ...runtime.identity, implementation: 'dawn 2' } }],
  ['of another kernel', { kernel: 'matmul' }],
  ['whose kernels have changed since', { sources: '0123456789abcdef' }],
  ['that names no variant', { variant: 'constructor' }],
  ['that names a variant of another call', { variant: 'subgroup, rows 8, keys 32, step 8' }],
] as const)('an entry %s counts for nothing', (_, change) => {
  expect(chosen({ ...entry, ...change })).toEqual({ variant: usual })
})

test('the hash tells variants and calls apart', () => {
  const hashes = flashVariants(runtime, call).flatMap((variant) => [
    sourcesHash(runtime, call, variant),
    sourcesHash(runtime, { ...call, causal: true }, variant),
  ])
  expect(new Set(hashes).size).toBe(hashes.length)
})

test('of a known adapter the speed is known, and each variant in its table is one', () => {
  for (const { vendor, device, calls } of knownAdapters) {
    const known = { ...runtime, identity: { ...runtime.identity, vendor, device } }
    for (const { tier, dtype, operationsPerSecond, variants } of calls) {
      for (const headDim of [64, 72, ...Object.keys(variants).map(Number)]) {
        const { variant, ...rest } = chooseVariant({ ...known, tier }, { ...call, dtype, headDim })
        const usual = defaultVariant({ tier }, { ...call, dtype, headDim })
        expect(rest).toEqual({ operationsPerSecond })
        expect(variantName(variant)).toBe(variants[headDim] ?? variantName(usual))
      }
    }
    // What was tuned here comes first.
    expect(
      chooseVariant({ ...known, tuning: { version: 1, entries: [{ ...entry, adapter: known.identity }] } }, call),
    ).toEqual({ variant: other, operationsPerSecond: 3e12 })
  }
})
