import { describe, expect, test } from 'vitest'
import { tuningEntry } from './test-support.js'
import { findTuning, mergeTuning, parseTuningTable } from './tuning.js'
import { classBudget, knownSpeedBudget } from './work-budget.js'

describe('a table from anywhere', () => {
  test('is copied: what is known, and nothing else', () => {
    const entry = tuningEntry()
    const table = { version: 1, entries: [{ ...entry, extra: 1, adapter: { ...entry.adapter, extra: 1 } }], extra: 1 }
    expect(parseTuningTable(JSON.parse(JSON.stringify(table)))).toEqual({ version: 1, entries: [entry] })
  })

  const refused: [string, unknown][] = [
    ['tuning', null],
    ['tuning', []],
    ['tuning', 'cached'],
    ['tuning.version', { version: 2, entries: [] }],
    ['tuning.entries', { version: 1 }],
    ['tuning.entries.length', { version: 1, entries: new Array(10_001) }],
    ['tuning.entries[1]', { version: 1, entries: [tuningEntry(), 7] }],
    ...[
      ['kernel', 7],
      ['adapter', null],
      ['tier', 'fast'],
      ['tier', 'toString'],
      ['dtype', 'f64'],
      ['headDim', 0],
      ['headDim', 1e9],
      ['causal', 'no'],
      ['variant', 'x'.repeat(1001)],
      ['sources', undefined],
      ['operationsPerSecond', 1e17],
      ['operationsPerSecond', Number.NaN],
      ['timeRatio', -1],
    ].map(([key, value]): [string, unknown] => [
      `tuning.entries[0].${key}`,
      { version: 1, entries: [{ ...tuningEntry(), [key as string]: value }] },
    ]),
    [
      'tuning.entries[0].adapter.device',
      { version: 1, entries: [{ ...tuningEntry(), adapter: { ...tuningEntry().adapter, device: {} } }] },
    ],
  ]
  test.each(refused)('%s is refused: %j', (where, table) => {
    expect(() => parseTuningTable(table)).toThrow(expect.objectContaining({ code: 'INVALID_FILE', where }))
  })
})

test('of two entries for one call the newer counts, and any difference of call or adapter makes two', () => {
  const entry = tuningEntry()
  const others = [
    { ...entry, headDim: 128 },
    { ...entry, causal: !entry.causal },
    { ...entry, adapter: { ...entry.adapter, implementation: 'dawn 9' } },
  ]
  const newer = { ...entry, variant: 'newer' }
  const table = mergeTuning({ version: 1, entries: [entry, ...others] }, { version: 1, entries: [newer] })
  expect(table.entries).toHaveLength(4)
  expect(findTuning(table, entry)).toEqual(newer)
  for (const other of others) expect(findTuning(table, other)).toEqual(other)
  expect(findTuning(table, { ...entry, tier: 'f16' })).toBeUndefined()
})

describe('the budget of a dispatch whose speed is known', () => {
  const work = classBudget(false)

  test('is 100 ms of it, also where the adapter is slower than its class', () => {
    expect(knownSpeedBudget(work, false, 2e13)).toBe(2e12)
    expect(knownSpeedBudget(work, false, 1e10)).toBe(1e9)
    expect(knownSpeedBudget(classBudget(true), true, 1e9)).toBe(1e8)
  })

  test('is less where less work was asked for, and never more than 200 times that of the class', () => {
    const less = { operationsPerDispatch: 1e9, operationsPerSubmit: 1e9 }
    expect(knownSpeedBudget(less, false, 2e13)).toBe(2e10)
    expect(knownSpeedBudget(work, false, 1e16)).toBe(2e13)
  })
})
