import type { AttentionContext, MethodDefinition, MethodOptions, OptionSpec, Runtime } from '@sparse-attention/core'
import { SparseAttentionError } from '@sparse-attention/core'
import fc from 'fast-check'
import { inputKinds } from '../inputs.js'
import { assertAtRandom, type FuzzOptions } from './assert-at-random.js'
import { type Case, defaultChoices, smallHeadDim } from './cases.js'
import { checkCase, type MethodUnderTest } from './check-case.js'

/** A case at random, with options and a grid that the table of cases does not have. */
interface RandomCase {
  readonly c: Case
  readonly options: Readonly<Record<string, unknown>>
  /** Shares of the tokens, for each axis of a grid but the last. */
  readonly grid: readonly number[]
}

/** Errors that say that options or shapes do not go together, before any work. */
const refusals = ['INVALID_OPTION', 'INVALID_ARGUMENT', 'INVALID_SHAPE', 'UNSUPPORTED', 'LIMIT_EXCEEDED']

/**
 * Cases at random against the reference and the oracle, as those of the table. What fails is made smaller, and the error names seed
 * and path: with them the run is the same again.
 */
export async function fuzzMethod<Options extends MethodOptions>(
  runtime: Runtime,
  method: MethodUnderTest<Options>,
  block: { readonly q: number; readonly k: number },
  fuzz: FuzzOptions,
): Promise<void> {
  const { definition } = method.factory
  const check = async ({ c, options, grid }: RandomCase): Promise<void> => {
    const given = { ...method, context: contextOf(method, grid) }
    try {
      await checkCase(runtime, given, c, options as Partial<Options>)
    } catch (error) {
      // Options that do not go together are refused, and that is all right; those by default always do.
      const refused = SparseAttentionError.is(error) && refusals.includes(error.code)
      if (!refused || Object.keys(options).length === 0) throw error
    }
  }
  const cases = randomCases(definition, block, fuzz.seconds !== undefined)
  await assertAtRandom(cases, check, fuzz, 3)
}

function contextOf<Options extends MethodOptions>(
  { factory, context }: MethodUnderTest<Options>,
  shares: readonly number[],
): MethodUnderTest<Options>['context'] {
  const { grid = 'none', gridAxes = [2, 3] } = factory.definition.capabilities
  if (grid === 'none' || shares.length === 0) return context
  const axes = gridAxes[shares.length % gridAxes.length]!
  return (shape): AttentionContext => {
    let left = shape.keyLength
    const sizes: number[] = []
    for (let axis = 0; axis < axes - 1; axis++) {
      const size = Math.max(1, Math.floor(left ** (shares[axis % shares.length]! * 0.9)))
      sizes.push(size)
      left = Math.floor(left / size)
    }
    return { ...context?.(shape), grid: [...sizes, left] }
  }
}

function randomCases<Options extends MethodOptions>(
  definition: MethodDefinition<Options>,
  block: { readonly q: number; readonly k: number },
  everything: boolean,
): fc.Arbitrary<RandomCase> {
  const { capabilities } = definition
  const { multipleOf, max } = capabilities.headDim
  const small = smallHeadDim(definition as unknown as MethodDefinition<MethodOptions>)
  const upTo = (blocks: number, size: number) => Math.ceil(blocks * size)
  const first = capabilities.queryLength === 'many' ? 2 : 1
  const lengths = (least: number, size: number) =>
    fc.oneof(
      fc.integer({ min: least, max: upTo(everything ? 6 : 2.5, size) }),
      // Where kernels break.
      fc.constantFrom(...[least, size - 1, size, size + 1, 2 * size].filter((length) => length >= least)),
    )
  const choices = Object.fromEntries(
    Object.entries<OptionSpec>(definition.options).flatMap(([name, spec]) =>
      spec.type === 'choice' ? [[name, fc.constantFrom<number | string>(...spec.choices)]] : [],
    ),
  )
  const shapes = fc.record({
    queryLength: capabilities.queryLength === 'one' ? fc.constant(1) : lengths(first, block.q),
    keyLength: lengths(first, block.k),
    kvHeads: fc.integer({ min: 1, max: 3 }),
    group: fc.constantFrom(1, 2, 3, 4, 8),
    batch: fc.integer({ min: 1, max: 3 }),
    headDim: everything
      ? fc.integer({ min: 1, max: Math.floor(max / multipleOf) }).map((n) => n * multipleOf)
      : fc.constant(small),
    dtype: everything ? fc.constantFrom(...capabilities.dtypes) : fc.constant(capabilities.dtypes[0]!),
    causal: everything ? fc.constantFrom(...capabilities.causal) : fc.constant(capabilities.causal.includes(true)),
    layout: fc.constantFrom('BHLD' as const, 'BLHD' as const),
    inputs: fc.constantFrom(...inputKinds),
    call: fc.constantFrom('run' as const, 'run-into' as const, 'encode' as const, 'parts' as const),
    scale: fc.constantFrom('default' as const, 0.25),
    choices: everything ? fc.record(choices) : fc.constant(defaultChoices(definition)),
  })
  return fc
    .record({
      shape: shapes,
      options: everything ? randomOptions(definition) : fc.constant({}),
      grid: everything ? fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 3 }) : fc.constant([]),
    })
    .map(({ shape: { group, kvHeads, ...rest }, options, grid }) => ({
      c: {
        ...rest,
        kvHeads,
        queryHeads: kvHeads * group,
        variant: 'default' as const,
        choices: rest.choices as Case['choices'],
        ...(capabilities.selfAttention && { queryLength: rest.keyLength }),
        // Only a power of two keeps the scores of extreme inputs exact.
        ...(rest.inputs === 'f16-extremes' && { scale: 0.25 }),
      },
      options: options as Readonly<Record<string, unknown>>,
      grid,
    }))
}

/** Values of some of the numeric options: ends of their range, and what lies in between. */
function randomOptions<Options extends MethodOptions>(definition: MethodDefinition<Options>): fc.Arbitrary<object> {
  const numbers = Object.entries<OptionSpec>(definition.options).flatMap(([name, spec]) => {
    if (spec.type === 'choice') return []
    const { min = -1000, max = 1000 } = spec
    const integer = spec.type === 'number' && spec.integer === true
    const near = { min, max: Math.min(max, min + 300) }
    const inside = integer ? fc.integer(near) : fc.double({ ...near, noNaN: true })
    return [[name, fc.oneof(inside, fc.constantFrom(min, max, spec.default))]]
  })
  return fc.record(Object.fromEntries(numbers), { requiredKeys: [] })
}
