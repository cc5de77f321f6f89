import {
  type AttentionConfig,
  type AttentionContext,
  type AttentionShape,
  type AttentionState,
  countPairs,
  type DType,
  type MethodDefinition,
  type MethodOptions,
  type Plan,
  type Runtime,
  type SparseAttention,
  SparseAttentionError,
  uploadPlan,
} from '@sparse-attention/core'
import { expectAttentionClose } from '../error-rule.js'
import { type Inputs, makeInputs } from '../inputs.js'
import { createRandom } from '../random.js'
import { trackBuffers } from '../track-buffers.js'
import { type Attended, attend, withAttention } from './attend.js'
import { type Knob, knobs, smallHeadDim } from './cases.js'
import type { MethodUnderTest } from './check-case.js'
import { cuttingRuntime } from './cutting-runtime.js'
import { faultProperties } from './fault-properties.js'
import { stateProperties } from './state-properties.js'

/** Something that holds for every method, checked at one shape. */
export interface Property<Options extends MethodOptions = MethodOptions> {
  readonly name: string
  /** Absent: applies to every method. */
  applies?(definition: MethodDefinition<Options>): boolean
  check(context: PropertyContext<Options>): Promise<void>
}

export interface PropertyContext<Options extends MethodOptions> {
  readonly runtime: Runtime
  readonly method: MethodUnderTest<Options>
  readonly block: { readonly q: number; readonly k: number }
  /** Every place of a fault and many runs, for hours; default: some of them. */
  readonly long?: boolean
}

const seed = 1

/** The properties of a method with these options; seeded with 1. */
export function properties<Options extends MethodOptions>(definition: MethodDefinition<Options>): Property<Options>[] {
  const all: Property<Options>[] = [
    ...knobs(definition).map((knob) => ({
      name: `density falls as ${knob.name} goes from ${knob.neutral} to ${knob.sparsest}`,
      check: (context: PropertyContext<Options>) => densityFalls(context, knob),
    })),
    { name: 'defaults, neutral and scaled options are valid', check: validOptions },
    { name: 'a configuration that the capabilities exclude is a typed error', check: capabilitiesHold },
    { name: 'every run gives the same bits, also after another shape and after reset', check: sameBitsAgain },
    { name: 'work cut into many submits gives the same bits', check: sameBitsCut },
    { name: 'concurrent runs on one attention and on two give the bits of single runs', check: sameBitsConcurrent },
    { name: 'fifty runs leave memory as it was', check: constantMemory },
    { name: 'what an attention allocates is freed with it', check: disposeFrees },
    { name: 'a given plan is the one computed over', check: givenPlan },
    { name: 'batch 2 equals two runs', check: batchEqualsRuns },
    { name: 'GQA equals repeated keys and values over the same plan', check: gqaEqualsRepetition },
    {
      name: 'keys and values beyond the causal limit do not change a row',
      applies: ({ capabilities }) => capabilities.causal.includes(true) && capabilities.queryLength !== 'one',
      check: causality,
    },
    { name: 'NaN and infinity in one key stay within the rows that read it', check: poisonedKey },
    {
      name: 'NaN in one query stays within its row',
      applies: ({ capabilities }) => capabilities.queryLength !== 'one',
      check: poisonedQuery,
    },
    {
      name: 'a grid is taken as the capabilities say',
      applies: ({ capabilities }) => (capabilities.grid ?? 'none') !== 'none',
      check: gridsChecked,
    },
    {
      name: 'queries and keys of different tokens are a typed error',
      applies: ({ capabilities }) => capabilities.selfAttention === true,
      check: selfAttentionOnly,
    },
    ...faultProperties<Options>(),
    ...(definition.capabilities.state ? stateProperties<Options>() : []),
  ]
  return all.filter((property) => property.applies?.(definition) ?? true)
}

export interface Problem {
  readonly dtype: DType
  readonly shape: AttentionShape
  readonly config: AttentionConfig
  readonly inputs: Inputs
}

/** Two KV heads, groups of two, three blocks and a bit; causal where the method can be. */
export function problem<Options extends MethodOptions>(
  { method, block }: PropertyContext<Options>,
  {
    blocks = 3,
    kind = 'gaussian' as Parameters<typeof makeInputs>[0],
    ...overrides
  }: Partial<
    AttentionShape & { causal: boolean; dtype: DType; blocks: number; kind: Parameters<typeof makeInputs>[0] }
  > = {},
): Problem {
  const { definition } = method.factory
  const { capabilities } = definition
  const shape: AttentionShape = {
    batch: overrides.batch ?? 1,
    queryHeads: overrides.queryHeads ?? 4,
    kvHeads: overrides.kvHeads ?? 2,
    queryLength: overrides.queryLength ?? (capabilities.queryLength === 'one' ? 1 : blocks * block.q + 5),
    keyLength: overrides.keyLength ?? blocks * block.k + 5,
    headDim: smallHeadDim(definition as unknown as MethodDefinition<MethodOptions>),
  }
  const dtype = overrides.dtype ?? capabilities.dtypes[0]!
  const causal = overrides.causal ?? capabilities.causal.includes(true)
  const { queryHeads, kvHeads, headDim } = shape
  const config = { queryHeads, kvHeads, headDim, dtype, causal }
  return { dtype, shape, config, inputs: makeInputs(kind, shape, dtype, seed) }
}

async function runOnce<Options extends MethodOptions>(
  { runtime, method }: Pick<PropertyContext<Options>, 'runtime' | 'method'>,
  { config, ...given }: Problem,
  options: Partial<Options> = {},
  more: Pick<Parameters<typeof attend>[2], 'plan' | 'onPlan'> = {},
): Promise<Attended> {
  const context = method.context?.(given.shape)
  return withAttention(runtime, method.factory, options, config, (attention) =>
    attend(runtime, attention, { ...given, ...(context && { context }), ...more }),
  )
}

/** Runs once and keeps the plan for `use`. */
async function withPlan<Options extends MethodOptions>(
  context: PropertyContext<Options>,
  given: Problem,
  use: (plan: Plan, attended: Attended) => Promise<void>,
): Promise<void> {
  let plan: Plan | undefined
  try {
    const attended = await runOnce(context, given, {}, { onPlan: (made) => (plan = made.clone()) })
    await use(plan!, attended)
  } finally {
    plan?.dispose()
  }
}

async function densityFalls<Options extends MethodOptions>(
  context: PropertyContext<Options>,
  { name, neutral, sparsest, integer }: Knob,
): Promise<void> {
  const { default: usual } = context.method.factory.definition.options[name as keyof Options]
  const values = [0, 0.1, 0.3, 0.6, 1].map((share) => neutral + share * (sparsest - neutral))
  const points = [...new Set([...values, Number(usual)].map((value) => (integer ? Math.round(value) : value)))]
  points.sort((a, b) => (sparsest > neutral ? a - b : b - a))
  for (const kind of ['gaussian', 'stripes'] as const) {
    const given = problem(context, { blocks: 5, kind, queryHeads: 2, kvHeads: 1 })
    let previous = Number.POSITIVE_INFINITY
    for (const value of points) {
      const { plan } = await runOnce(context, given, { [name]: value } as unknown as Partial<Options>)
      const { kept, visible } = countPairs(plan)
      if (kept > previous) {
        throw new Error(
          `on ${kind} inputs ${name} = ${value} keeps ${kept} pairs of ${visible}, the value before it ${previous}`,
        )
      }
      previous = kept
    }
  }
}

async function givenPlan<Options extends MethodOptions>(context: PropertyContext<Options>): Promise<void> {
  const { runtime, method } = context
  const sparse = Object.fromEntries(knobs(method.factory.definition).map((knob) => [knob.name, knob.sparsest]))
  const maker = problem(context, { blocks: 5, kind: 'stripes' })
  const { config, ...given } = problem(context, { blocks: 5 })
  let plan: Plan | undefined
  try {
    const made = await runOnce(context, maker, sparse as unknown as Partial<Options>, {
      onPlan: (p) => (plan = p.clone()),
    })
    await withAttention(runtime, method.factory, {}, config, async (attention) => {
      const extra = method.context ? { context: method.context(given.shape) } : {}
      await attend(runtime, attention, { ...given, ...extra })
      const attended = await attend(runtime, attention, { ...given, ...extra, plan: plan! })
      expectSameBits(attended, { ...attended, mask: made.mask }, 'the plan returned')
      const { shape, inputs, dtype } = given
      const scale = 1 / Math.sqrt(shape.headDim)
      expectAttentionClose(attended, { ...shape, ...inputs, scale, mask: made.mask, dtype, name: 'the given plan' })
    })
  } finally {
    plan?.dispose()
  }
}

async function gridsChecked<Options extends MethodOptions>(context: PropertyContext<Options>): Promise<void> {
  const { runtime, method } = context
  const { grid, gridAxes = [2, 3] } = method.factory.definition.capabilities
  const { config, ...given } = problem(context, { blocks: 1 })
  const { keyLength } = given.shape
  const usual = method.context?.(given.shape) ?? {}
  const axes = gridAxes[0]!
  const line = (tokens: number) => [...new Array<number>(axes - 1).fill(1), tokens]
  const wrong = [line(keyLength + 1), line(0), line(1.5), [...line(1), 1, 1]]
  await withAttention(runtime, method.factory, {}, config, async (attention) => {
    const call = ({ grid: _, ...others }: AttentionContext, taken?: number[]) =>
      attend(runtime, attention, { ...given, context: { ...others, ...(taken && { grid: taken }) } })
    for (const taken of [...wrong, ...(grid === 'required' ? [undefined] : [])]) {
      const refused = await call(usual, taken).catch((error: unknown) => error)
      if (!SparseAttentionError.is(refused)) throw new Error(`the grid [${taken}] for ${keyLength} keys is not refused`)
    }
    for (const taken of [line(keyLength), ...(grid === 'optional' ? [undefined] : [])]) await call(usual, taken)
  })
}

async function selfAttentionOnly<Options extends MethodOptions>(context: PropertyContext<Options>): Promise<void> {
  const { keyLength } = problem(context, { blocks: 1 }).shape
  const refused = await runOnce(context, problem(context, { blocks: 1, queryLength: keyLength - 1 })).catch(
    (error: unknown) => error,
  )
  if (!SparseAttentionError.is(refused)) throw new Error('other lengths of queries and keys are not refused')
}

async function validOptions<Options extends MethodOptions>({ method }: PropertyContext<Options>): Promise<void> {
  const { definition } = method.factory
  method.factory()
  method.factory(definition.neutral)
  for (let length = 1; length <= 2 ** 20; length *= 2) {
    for (const n of [length, length + 1]) method.factory(definition.scaled(n))
  }
}

async function capabilitiesHold<Options extends MethodOptions>(context: PropertyContext<Options>): Promise<void> {
  const { runtime, method } = context
  const { capabilities } = method.factory.definition
  const { config } = problem(context)
  const excluded: Partial<AttentionConfig>[] = [
    { headDim: capabilities.headDim.max + capabilities.headDim.multipleOf },
    { kvHeads: 3 },
  ]
  if (capabilities.headDim.multipleOf > 1) excluded.push({ headDim: capabilities.headDim.multipleOf + 1 })
  for (const dtype of ['f32', 'f16'] as const) if (!capabilities.dtypes.includes(dtype)) excluded.push({ dtype })
  for (const causal of [true, false]) if (!capabilities.causal.includes(causal)) excluded.push({ causal })
  for (const wrong of excluded) {
    const made = runtime.use(method.factory(), { ...config, ...wrong }).then(
      (attention) => attention.dispose(),
      (error: unknown) => error,
    )
    if (!SparseAttentionError.is(await made)) throw new Error(`${JSON.stringify(wrong)} is not refused: ${await made}`)
  }
}

/** Races show now and then, and on GPUs: software runs one workgroup after another. */
async function sameBitsAgain<Options extends MethodOptions>(context: PropertyContext<Options>): Promise<void> {
  const { runtime, method } = context
  const { dtypes, state = false } = method.factory.definition.capabilities
  // Matrices are of halves.
  const dtype = runtime.tier === 'matrix' && dtypes.includes('f16') ? 'f16' : dtypes[0]!
  const { config, ...given } = problem(context, { dtype, ...(runtime.software ? {} : { blocks: 12 }) })
  const other = problem(context, { dtype, blocks: 2, batch: 2 })
  await withAttention(runtime, method.factory, {}, config, async (attention) => {
    const run = ({ shape, inputs }: Pick<Problem, 'shape' | 'inputs'>) =>
      attend(runtime, attention, {
        ...{ dtype, shape, inputs },
        ...(method.context && { context: method.context(shape) }),
      })
    const first = await run(given)
    for (let i = 2; i <= (runtime.software ? 2 : 50); i++) {
      if (state) attention.reset()
      expectSameBits(await run(given), first, `run ${i}`)
      attention.reset()
    }
    await run(other)
    attention.reset()
    expectSameBits(await run(given), first, 'the run after another shape')
  })
}

async function sameBitsCut<Options extends MethodOptions>(context: PropertyContext<Options>): Promise<void> {
  const given = problem(context)
  const whole = await runOnce(context, given)
  const cutting = await cuttingRuntime(context.runtime)
  expectSameBits(await runOnce({ ...context, runtime: cutting }, given), whole, 'the cut run')
}

async function sameBitsConcurrent<Options extends MethodOptions>(context: PropertyContext<Options>): Promise<void> {
  const { runtime, method } = context
  const problems = [problem(context), problem(context, { blocks: 2, kind: 'stripes' })] as const
  const alone = [await runOnce(context, problems[0]), await runOnce(context, problems[1])] as const
  const cutting = await cuttingRuntime(runtime)
  const states: AttentionState[] = []
  using one = await cutting.use(method.factory(), problems[0].config)
  using other = await cutting.use(method.factory(), problems[1].config)
  const uploaded = problems.map(({ dtype, shape, inputs }) => {
    const { batch, queryHeads, kvHeads, queryLength, keyLength, headDim } = shape
    const keyShape = [batch, kvHeads, keyLength, headDim]
    return {
      q: runtime.tensor(dtype, [batch, queryHeads, queryLength, headDim], Float32Array.from(inputs.q)),
      k: runtime.tensor(dtype, keyShape, Float32Array.from(inputs.k)),
      v: runtime.tensor(dtype, keyShape, Float32Array.from(inputs.v)),
      ...(method.context && { context: method.context(shape) }),
    }
  })
  try {
    const order = [0, 1, 0, 1] as const
    const run = (attention: SparseAttention, n: 0 | 1) => {
      if (!method.factory.definition.capabilities.state) return attention.run(uploaded[n]!)
      const state = attention.createState()
      states.push(state)
      return attention.run({ ...uploaded[n]!, state })
    }
    const results = await Promise.all(order.map((n) => run(n === 0 ? one : other, n)))
    const across = await Promise.all([run(one, 1), run(one, 0)])
    for (const [i, { out, lse }] of [...results, ...across].entries()) {
      const expected = alone[[...order, 1, 0][i]!]!
      const actual = { out: await cutting.read(out), lse: await cutting.read(lse) }
      expectSameBits({ ...expected, ...actual }, expected, `concurrent run ${i}`)
      out.buffer.destroy()
      lse.buffer.destroy()
    }
  } finally {
    for (const state of states) state.dispose()
    for (const { q, k, v } of uploaded) for (const tensor of [q, k, v]) tensor.dispose()
  }
}

async function constantMemory<Options extends MethodOptions>(context: PropertyContext<Options>): Promise<void> {
  const { runtime, method } = context
  const { config, ...given } = problem(context, { blocks: 1, queryHeads: 1, kvHeads: 1 })
  const extra = method.context ? { context: method.context(given.shape) } : {}
  await withAttention(runtime, method.factory, {}, config, async (attention) => {
    const once = () => attend(runtime, attention, { ...given, ...extra })
    await once()
    // A state's second call does what its first could not.
    if (method.factory.definition.capabilities.state) await once()
    using buffers = trackBuffers(runtime.device)
    const scratch = runtime.scratch.allocatedBytes
    for (let n = 0; n < 50; n++) await once()
    if (buffers.live > 0) throw new Error(`50 runs left ${buffers.live} buffers of ${buffers.liveBytes} bytes`)
    if (runtime.scratch.allocatedBytes !== scratch) {
      throw new Error(`50 runs took scratch from ${scratch} to ${runtime.scratch.allocatedBytes} bytes`)
    }
  })
}

async function disposeFrees<Options extends MethodOptions>(context: PropertyContext<Options>): Promise<void> {
  const given = problem(context, { blocks: 1 })
  await runOnce(context, given) // compiles, and fills the pools that the runtime keeps
  using buffers = trackBuffers(context.runtime.device)
  await runOnce(context, given)
  if (buffers.live > 0)
    throw new Error(`a disposed attention left ${buffers.live} buffers of ${buffers.liveBytes} bytes`)
  const { runtime, method } = context
  const attention = await runtime.use(method.factory(), given.config)
  attention.dispose()
  attention.dispose()
  if (buffers.live > 0) throw new Error(`an attention that never ran left ${buffers.live} buffers`)
}

async function batchEqualsRuns<Options extends MethodOptions>(context: PropertyContext<Options>): Promise<void> {
  const both = problem(context, { batch: 2, blocks: 2 })
  const together = await runOnce(context, both)
  for (const b of [0, 1]) {
    const half = <T extends Float64Array | Float32Array | Uint8Array>(values: T): T =>
      values.slice((b * values.length) / 2, ((b + 1) * values.length) / 2) as T
    const { q, k, v } = both.inputs
    const inputs = { q: half(q), k: half(k), v: half(v) }
    const single = await runOnce(context, { ...both, shape: { ...both.shape, batch: 1 }, inputs })
    const part = { ...together, out: half(together.out), lse: half(together.lse!), mask: half(together.mask) }
    expectSameBits(part, single, `batch entry ${b}`)
  }
}

async function gqaEqualsRepetition<Options extends MethodOptions>(context: PropertyContext<Options>): Promise<void> {
  const grouped = problem(context, { queryHeads: 4, kvHeads: 2, blocks: 2 })
  await withPlan(context, grouped, async (plan, attended) => {
    const repeat = (values: Float64Array) => {
      const head = values.length / 2
      return Float64Array.from(
        { length: 2 * values.length },
        (_, i) => values[Math.floor(i / (2 * head)) * head + (i % head)]!,
      )
    }
    const repeated = {
      ...grouped,
      config: { ...grouped.config, kvHeads: 4 },
      shape: { ...grouped.shape, kvHeads: 4 },
      inputs: { ...grouped.inputs, k: repeat(grouped.inputs.k), v: repeat(grouped.inputs.v) },
    }
    const own = await planOfEachHead(context.runtime, plan, repeated.shape)
    try {
      const actual = await runOnce(context, repeated, {}, { plan: own ?? plan })
      // Few rows that share their keys may be another kernel on a GPU than one row, and add in another order.
      const oneKernel = context.runtime.software || context.method.factory.definition.capabilities.queryLength !== 'one'
      const compare = oneKernel ? expectSameBits : expectSameSums
      compare(actual, attended, 'the run with repeated keys')
    } finally {
      own?.dispose()
    }
  })
}

/** Lists that query heads share, as lists of each head: where every head has keys of its own, none can share. */
async function planOfEachHead(runtime: Runtime, plan: Plan, shape: AttentionShape): Promise<Plan | undefined> {
  const host = await plan.read()
  if (host.kind !== 'stripe' || host.heads === shape.queryHeads) return undefined
  const group = shape.queryHeads / host.heads
  const blocks = Math.ceil(host.queryLength / host.blockQ)
  const perHead = (values: Int32Array, rowLength: number): number[] => {
    const head = blocks * rowLength
    const heads = Array.from({ length: values.length / head }, (_, h) =>
      Array.from(values.subarray(h * head, (h + 1) * head)),
    )
    return heads.flatMap((entries) => Array.from({ length: group }, () => entries).flat())
  }
  const rows = host.batch * host.heads * blocks
  let first = 0
  const indices = host.lists.flatMap(({ capacity }) => {
    const list = host.indices.subarray(first, first + rows * capacity)
    first += rows * capacity
    return perHead(list, capacity)
  })
  const expanded = {
    ...host,
    heads: shape.queryHeads,
    counts: Int32Array.from(perHead(host.counts, 1)),
    indices: Int32Array.from(indices),
  }
  return uploadPlan(runtime, expanded, shape)
}

async function causality<Options extends MethodOptions>(context: PropertyContext<Options>): Promise<void> {
  const given = problem(context, { causal: true })
  const { shape, inputs } = given
  // Not at the edge of a block or of a tile.
  const firstChanged = Math.floor(shape.keyLength / 2) + 3
  const random = createRandom(seed + 1)
  const change = (values: Float64Array) =>
    values.map((x, i) => {
      const key = Math.floor(i / shape.headDim) % shape.keyLength
      return key < firstChanged ? x : 30 * random.gaussian()
    })
  await withPlan(context, given, async (plan, before) => {
    const changed = { ...given, inputs: { ...inputs, k: change(inputs.k), v: change(inputs.v) } }
    const after = await runOnce(context, changed, {}, { plan })
    const sees = (row: number) => (row % shape.queryLength) + shape.keyLength - shape.queryLength >= firstChanged
    expectSameRows(after, before, shape, (row) => !sees(row), `keys from ${firstChanged} on were changed`)
    const rows = Array.from({ length: shape.queryHeads * shape.queryLength }, (_, row) => row)
    const last = rows.filter((row) => sees(row) && !same(after.out, before.out, row, shape.headDim))
    if (last.length === 0) throw new Error('no row changed, though the last ones read changed keys')
  })
}

async function poisonedKey<Options extends MethodOptions>(context: PropertyContext<Options>): Promise<void> {
  const given = problem(context)
  const { shape, inputs, config } = given
  const key = Math.floor(shape.keyLength / 2) + 3
  await withPlan(context, given, async (plan, clean) => {
    for (const tensor of ['k', 'v'] as const) {
      for (const poison of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
        const what = `${poison} in ${tensor} of key ${key} of KV head 0`
        const values = inputs[tensor].map((x, i) => (Math.floor(i / shape.headDim) === key ? poison : x))
        const poisoned = { ...given, inputs: { ...inputs, [tensor]: values } }
        const reads =
          ({ mask }: Attended) =>
          (row: number) =>
            row < (shape.queryHeads / shape.kvHeads) * shape.queryLength && mask[row * shape.keyLength + key] === 1

        const fixed = await runOnce(context, poisoned, {}, { plan })
        expectSameRows(fixed, clean, shape, (row) => !reads(clean)(row), `${what}, over the plan made without it`)

        // The method's own plan may differ; rows that do not read the key must be right all the same.
        const free = await runOnce(context, poisoned)
        const readsKey = reads(free)
        const { out, lse, mask } = { out: free.out.slice(), lse: free.lse!.slice(), mask: free.mask.slice() }
        for (let row = 0; row < lse.length; row++) {
          if (!readsKey(row)) continue
          out.fill(0, row * shape.headDim, (row + 1) * shape.headDim)
          lse[row] = Number.NEGATIVE_INFINITY
          mask.fill(0, row * shape.keyLength, (row + 1) * shape.keyLength)
        }
        const scale = config.scale ?? 1 / Math.sqrt(shape.headDim)
        // NaN times a weight of zero is NaN: the oracle must not meet the poison in rows that leave the key out.
        expectAttentionClose(
          { out, lse },
          { ...shape, ...poisoned.inputs, scale, mask, dtype: given.dtype, name: what },
        )
      }
    }
  })
}

async function poisonedQuery<Options extends MethodOptions>(context: PropertyContext<Options>): Promise<void> {
  const given = problem(context)
  const { shape, inputs } = given
  const poisonedRow = Math.floor(shape.queryLength / 2) + 1
  await withPlan(context, given, async (plan, clean) => {
    const q = inputs.q.map((x, i) => (Math.floor(i / shape.headDim) === poisonedRow ? Number.NaN : x))
    const after = await runOnce(context, { ...given, inputs: { ...inputs, q } }, {}, { plan })
    expectSameRows(after, clean, shape, (row) => row !== poisonedRow, `NaN in query ${poisonedRow} of head 0`)
    await runOnce(context, { ...given, inputs: { ...inputs, q } }) // ends, whatever is selected for that row
  })
}

function same(a: Float32Array, b: Float32Array, row: number, width: number): boolean {
  for (let i = row * width; i < (row + 1) * width; i++) if (!Object.is(a[i], b[i])) return false
  return true
}

function expectSameRows(
  actual: Attended,
  expected: Attended,
  shape: AttentionShape,
  counts: (row: number) => boolean,
  what: string,
): void {
  let compared = 0
  for (let row = 0; row < expected.lse!.length; row++) {
    if (!counts(row)) continue
    compared++
    if (same(actual.out, expected.out, row, shape.headDim) && same(actual.lse!, expected.lse!, row, 1)) continue
    throw new Error(`${what}: row ${row} of [batch, head, query] does not read it, but its output changed`)
  }
  if (compared === 0) throw new Error(`${what}: no row was left to compare`)
}

/** The same keys, and sums of float32 in any order. */
function expectSameSums(actual: Attended, expected: Attended, what: string): void {
  expectSameBits({ ...expected, mask: actual.mask }, expected, what)
  for (const field of ['out', 'lse'] as const) {
    const [a, b] = [actual[field]!, expected[field]!]
    if (a.length !== b.length) throw new Error(`${what}: ${field} has ${a.length} elements, expected ${b.length}`)
    const most = 2e-6 * b.reduce((largest, x) => Math.max(largest, Math.abs(x)), 0) // some 30 roundings of 6e-8
    for (let i = 0; i < b.length; i++) {
      if (Object.is(a[i], b[i]) || Math.abs(a[i]! - b[i]!) <= most) continue
      throw new Error(`${what}: element ${i} of ${field} is ${a[i]}, expected ${b[i]} within ${most}`)
    }
  }
}

export function expectSameBits(actual: Attended, expected: Attended, what: string): void {
  for (const field of ['out', 'lse', 'mask'] as const) {
    const [a, b] = [actual[field]!, expected[field]!]
    if (a.length !== b.length) throw new Error(`${what}: ${field} has ${a.length} elements, expected ${b.length}`)
    for (let i = 0; i < b.length; i++) {
      if (!Object.is(a[i], b[i])) throw new Error(`${what}: element ${i} of ${field} is ${a[i]}, expected ${b[i]}`)
    }
  }
}
