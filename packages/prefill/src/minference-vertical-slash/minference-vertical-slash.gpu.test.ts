import {
  type AttentionShape,
  createRuntime,
  defineMethod,
  type HostStripePlan,
  type Plan,
  type Runtime,
} from '@sparse-attention/core'
import { describeMethod, type InputKind, makeInputs } from '@sparse-attention/testing'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type MinferenceVerticalSlashOptions, minferenceVerticalSlash } from './method.js'
import { minferenceVerticalSlashReference } from './reference.js'

// The code's sizes keep everything at the suite's lengths, so it runs with defaults that select.
const { definition } = minferenceVerticalSlash
const usual = { vertical: 20, slash: 11, sink: 4, localWindow: 8 }
const selecting = defineMethod<MinferenceVerticalSlashOptions>({
  ...definition,
  options: {
    vertical: { ...definition.options.vertical, type: 'per-head', default: usual.vertical },
    slash: { ...definition.options.slash, type: 'per-head', default: usual.slash },
    sink: { ...definition.options.sink, type: 'number', default: usual.sink },
    localWindow: { ...definition.options.localWindow, type: 'number', default: usual.localWindow },
  },
})
describeMethod(selecting, { reference: minferenceVerticalSlashReference })

describe('minference-vertical-slash', () => {
  let runtime: Runtime
  beforeAll(async () => {
    runtime = await createRuntime()
  })
  afterAll(() => runtime.dispose())

  const shape = { batch: 1, queryHeads: 2, kvHeads: 1, queryLength: 600, keyLength: 600, headDim: 32 }

  async function withPlan<T>(
    options: Partial<MinferenceVerticalSlashOptions>,
    given: AttentionShape,
    inputs: InputKind | ReturnType<typeof makeInputs>,
    use: (plan: Plan) => Promise<T>,
  ): Promise<T> {
    const { queryHeads, queryLength, keyLength, headDim } = given
    const { q, k, v } = typeof inputs === 'string' ? makeInputs(inputs, given, 'f32', 9) : inputs
    using attention = await runtime.use(minferenceVerticalSlash(options), { ...given, dtype: 'f32', causal: true })
    using qTensor = runtime.tensor('f32', [1, queryHeads, queryLength, headDim], Float32Array.from(q))
    using kTensor = runtime.tensor('f32', [1, 1, keyLength, headDim], Float32Array.from(k))
    using vTensor = runtime.tensor('f32', [1, 1, keyLength, headDim], Float32Array.from(v))
    const { out, lse, plan } = await attention.run({ q: qTensor, k: kTensor, v: vTensor })
    const used = await use(plan)
    out.buffer.destroy()
    lse.buffer.destroy()
    return used
  }

  /** Inputs in which the last queries of head 0 look at key 77, and those of head 1 at what lies 200 before them. */
  function planted(): ReturnType<typeof makeInputs> {
    const { q, k, v } = makeInputs('gaussian', shape, 'f32', 3)
    const { queryLength, headDim } = shape
    for (let row = 0; row < queryLength; row++) {
      for (const [head, key] of [77, row - 200].entries()) {
        if (key < 0) continue
        for (let d = 0; d < headDim; d++) {
          q[(head * queryLength + row) * headDim + d]! += 3 * k[key * headDim + d]!
        }
      }
    }
    return { q, k, v }
  }

  const sizes = { vertical: 12, slash: 6, sink: 4, localWindow: 5 }

  test('a heavy column and a heavy diagonal are found, each in its head', async () => {
    const mask = await withPlan(sizes, shape, planted(), (plan) => plan.toMask())
    const kept = (head: number, row: number, key: number) => mask[(head * 600 + row) * 600 + key] === 1
    for (let row = 0; row < 600; row++) {
      if (row >= 77) expect(kept(0, row, 77), `column 77 of row ${row}`).toBe(true)
      if (row >= 200) expect(kept(1, row, row - 200), `diagonal 200 of row ${row}`).toBe(true)
    }
  })

  test('sinks and the local window are always kept; tiles and columns stay within the sizes asked for', async () => {
    const { mask, host } = await withPlan(sizes, shape, 'gaussian', async (plan) => ({
      mask: await plan.toMask(),
      host: (await plan.read()) as HostStripePlan,
    }))
    for (let row = 0; row < 600; row++) {
      for (let head = 0; head < 2; head++) {
        const keys = [0, 1, 2, 3, row - 4, row - 3, row - 2, row - 1, row].filter((key) => key >= 0 && key <= row)
        expect(
          keys.every((key) => mask[(head * 600 + row) * 600 + key] === 1),
          `row ${row}, head ${head}`,
        ).toBe(true)
      }
    }
    expect(host.lists.map(({ width }) => width)).toEqual([64, 1])
    const rows = host.counts.length / 2
    expect(Math.max(...host.counts.subarray(0, rows))).toBeLessThanOrEqual(sizes.slash)
    // A tile that would begin before key 0 is up to 63 columns.
    expect(Math.max(...host.counts.subarray(rows))).toBeLessThanOrEqual(sizes.vertical + 63)
  })

  test('with zero queries columns before the last rows and distances all tie, and the lower ones win', async () => {
    const short = { ...shape, queryLength: 64, queryHeads: 1 }
    const host = await withPlan(sizes, short, 'zero-queries', (plan) => plan.read() as Promise<HostStripePlan>)
    // Distances 0 to 5 of rows 536 … 599: a tile of the rows' own keys, and one before it.
    expect([...host.indices.subarray(0, host.counts[0])]).toEqual([472, 536])
    expect([...host.indices.subarray(host.lists[0]!.capacity).subarray(0, host.counts[1])]).toEqual(
      Array.from({ length: 12 }, (_, key) => key),
    )
  })

  test('larger sizes cover every pair that smaller ones ask for, up to more columns and distances than keys', async () => {
    const inputs = makeInputs('stripes', shape, 'f32', 5)
    const given = { ...shape, ...inputs, causal: true, scale: 1 / Math.sqrt(32), context: {} }
    const steps = [
      [12, 6],
      [12, 30],
      [200, 30],
      [400, 300],
    ] as const
    const masks: Uint8Array[] = []
    for (const [vertical, slash] of steps) {
      masks.push(await withPlan({ ...sizes, vertical, slash }, shape, inputs, (plan) => plan.toMask()))
      const asked = minferenceVerticalSlashReference(given, { ...sizes, vertical, slash }).headRankings!
      for (let pair = 0; pair < 2 * 600 * 600; pair++) {
        const [head, row, key] = [Math.floor(pair / 360000), Math.floor(pair / 600) % 600, pair % 600]
        const entries = [key, row - key]
        const isAsked = key <= row && asked.some(({ kept }, n) => kept[head * 600 + entries[n]!] === 1)
        if (isAsked && masks[masks.length - 1]![pair] === 0)
          throw new Error(`pair (${row}, ${key}) of head ${head} is missing`)
      }
    }
    const asks = (step: number) =>
      minferenceVerticalSlashReference(given, { ...sizes, vertical: steps[step]![0], slash: steps[step]![1] })
        .headRankings!
    for (let step = 1; step < steps.length; step++) {
      const [less, more] = [asks(step - 1), asks(step)]
      less.forEach(({ kept }, n) => {
        expect(kept.every((one, entry) => one <= more[n]!.kept[entry]!)).toBe(true)
      })
    }
  })

  test('each head follows its own sizes, each layer its own row; forced entries stay beyond them', async () => {
    const { q, k, v } = makeInputs('gaussian', shape, 'f32', 9)
    const config = { ...shape, dtype: 'f32', causal: true } as const
    const tables = {
      vertical: [
        [500, 500],
        [40, 2.5],
      ],
      slash: [
        [500, 500],
        [5, 9],
      ],
    }
    using attention = await runtime.use(minferenceVerticalSlash({ ...tables, sink: 4, localWindow: 7 }), config)
    using qTensor = runtime.tensor('f32', [1, 2, 600, 32], Float32Array.from(q))
    using kTensor = runtime.tensor('f32', [1, 1, 600, 32], Float32Array.from(k))
    using vTensor = runtime.tensor('f32', [1, 1, 600, 32], Float32Array.from(v))
    const tensors = { q: qTensor, k: kTensor, v: vTensor }
    const { out, lse, plan } = await attention.run({ ...tensors, context: { layer: 1 } })
    const mask = await plan.toMask()
    const given = { ...shape, q, k, v, causal: true, scale: 1 / Math.sqrt(32), context: { layer: 1 } }
    const reference = minferenceVerticalSlashReference(given, { ...tables, sink: 4, localWindow: 7 })
    for (let head = 0; head < 2; head++) {
      for (let key = 0; key < 600; key++) {
        const [actual, expected] = [mask[(head * 600 + 599) * 600 + key], reference.kept[(head * 10 + 9) * 600 + key]]
        expect(actual, `key ${key} in the last row of head ${head}`).toBe(expected)
      }
    }
    const sums = reference.headRankings!.map(({ kept }) =>
      [0, 600].map((at) => kept.subarray(at, at + 600).reduce((a, b) => a + b)),
    )
    expect(sums).toEqual([
      [40, 4],
      [7, 9],
    ])
    out.buffer.destroy()
    lse.buffer.destroy()
    await expect(attention.run({ ...tensors, context: { layer: 2 } })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    })
  })

  test('one size that reaches all keys is dense, and says so', async () => {
    const long = { ...shape, queryHeads: 1, queryLength: 65, keyLength: 6096 }
    const path = (plan: Plan) => Promise.resolve(plan.path)
    expect(await withPlan({}, long, 'gaussian', path)).toBe('dense')
    expect(await withPlan({ vertical: 6096, slash: 1 }, long, 'gaussian', path)).toBe('dense')
    expect(await withPlan({}, { ...long, keyLength: 6097 }, 'gaussian', path)).toBe('sparse')
  })

  test.each([1024, 4096])('scaled options keep 0.2 to 0.5 of %i tokens', async (length) => {
    const long = { ...shape, queryHeads: 1, queryLength: length, keyLength: length, headDim: 8 }
    for (const kind of ['gaussian', 'diagonals'] as const) {
      const { density } = await withPlan(definition.scaled(length), long, kind, (plan) => plan.stats())
      expect(density, kind).toBeGreaterThan(0.2)
      expect(density, kind).toBeLessThan(0.5)
    }
  })
})
