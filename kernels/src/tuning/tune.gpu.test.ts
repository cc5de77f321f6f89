import { createRuntime, parseTuningTable, type Runtime, type TuningTable } from '@sparse-attention/core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { flashVariants, variantName } from '../flash-attention/variants.js'
import { chooseVariant } from './choose-variant.js'
import { type TuneProgress, tune } from './tune.js'

const call = { headDim: 8, dtype: 'f32', causal: true } as const

describe('tune', () => {
  let runtime: Runtime
  beforeAll(async () => {
    runtime = await createRuntime({ tier: 'portable' })
  })
  afterAll(() => runtime.dispose())

  test('times variants that give the default result, and makes a table that a runtime takes', async () => {
    const steps: TuneProgress[] = []
    const report = await tune(
      runtime,
      { ...call, lengths: [70, 33] },
      { budgetMs: 3000, onProgress: (step) => steps.push(step) },
    )
    const names = flashVariants(runtime, call).map(variantName)
    expect(report.lengths).toEqual([70, 33])
    expect(report.variants.map(({ variant }) => variant)).toEqual(names)
    expect(report.variants[0]).toMatchObject({ left: null, ratios: [1, 1] })
    expect(report.variants.filter(({ left }) => left === 'wrong' || left === 'not compiled')).toEqual([])
    expect(names).toContain(report.winner)
    expect(new Set(steps.map(({ phase }) => phase))).toEqual(new Set(['compile', 'check', 'measure']))

    const table = JSON.parse(JSON.stringify(report.table)) as TuningTable
    expect(parseTuningTable(table)).toEqual(report.table)
    using tuned = await createRuntime({ device: runtime.device, tier: 'portable', tuning: table })
    const { variant, operationsPerSecond } = chooseVariant({ ...tuned, identity: runtime.identity }, call)
    expect(variantName(variant)).toBe(report.winner)
    expect(operationsPerSecond).toBe(table.entries[0]!.operationsPerSecond)
    expect(tuned.dispatchBudget(operationsPerSecond)).toBeCloseTo(operationsPerSecond! / 10)
  })

  test('without time for anything the default wins, and its speed is known', async () => {
    const report = await tune(runtime, call, { budgetMs: 1 })
    expect(report.winner).toBe(variantName(flashVariants(runtime, call)[0]!))
    expect(report.variants.slice(1).every(({ left }) => left === 'no time')).toBe(true)
    expect(report.table.entries[0]!.operationsPerSecond).toBeGreaterThan(0)
  })

  test('is cancelled between two samples, with the reason', async () => {
    const controller = new AbortController()
    const reason = new Error('enough')
    const onProgress = ({ phase }: TuneProgress) => {
      if (phase === 'measure') controller.abort(reason)
    }
    await expect(tune(runtime, call, { signal: controller.signal, onProgress })).rejects.toBe(reason)
  })

  test.each([
    ['INVALID_ARGUMENT', { ...call, lengths: [] }],
    ['INVALID_ARGUMENT', { ...call, lengths: [64, -1] }],
    ['UNSUPPORTED', { ...call, headDim: 12 }],
  ])('refuses with %s: %j', async (code, refused) => {
    await expect(tune(runtime, refused)).rejects.toThrow(expect.objectContaining({ code }))
  })
})
