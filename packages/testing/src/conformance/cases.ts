import type {
  AttentionShape,
  DType,
  MethodDefinition,
  MethodOptions,
  OptionSpec,
  OptionValue,
} from '@sparse-attention/core'
import { type InputKind, inputKinds } from '../inputs.js'
import { type Parameters, pairwise } from '../pairwise.js'
import type { Layout } from '../tensors.js'

/** How the attention is called: with outputs of its own or the caller's, or recorded by the caller. */
export type Call = 'run' | 'run-into' | 'encode' | 'parts'

/** Which options a case uses: the defaults, those of the metadata, or knobs turned to the end that keeps least. */
export type Variant = 'default' | 'neutral' | 'scaled' | 'sparsest' | 'per-head'

/** One line of the grid: what its name lists. */
export interface Case extends AttentionShape {
  readonly dtype: DType
  readonly causal: boolean
  readonly layout: Layout
  readonly inputs: InputKind
  readonly variant: Variant
  /** A value for each option that is a choice. */
  readonly choices: Readonly<Record<string, number | string>>
  readonly call: Call
  /** Factor on QKᵀ: 1/√head_dim, or another. */
  readonly scale: 'default' | number
}

const allHeadDims = [32, 64, 80, 96, 128, 256]

/** [KV heads, query heads]: groups of 1, 4 and 8. */
const headCounts = [
  [2, 2],
  [2, 8],
  [1, 8],
  [1, 1],
] as const

/** The case's parameters, in one line: its name, and the seed of its data. */
export function caseName(c: Case): string {
  const heads = `heads${c.queryHeads}/${c.kvHeads}`
  const choices = Object.entries(c.choices).map(([name, value]) => `${name}=${value}`)
  const scale = c.scale === 'default' ? [] : [`scale=${c.scale}`]
  return [
    ...[`q${c.queryLength}`, `k${c.keyLength}`, heads, `batch${c.batch}`, `d${c.headDim}`, c.dtype],
    ...[c.causal ? 'causal' : 'full', c.layout, c.inputs, c.variant, ...choices, ...scale, c.call],
  ].join(' ')
}

/**
 * The grid of a method: every two conditions that its capabilities allow come together in some case. About 60 cases.
 *
 * @param block    query and key block of its plans, in tokens
 * @param headDims of the cases, as far as the method takes them
 */
export function conformanceCases<Options extends MethodOptions>(
  definition: MethodDefinition<Options>,
  block: { readonly q: number; readonly k: number },
  headDims: readonly number[] = allHeadDims,
): Case[] {
  const { capabilities } = definition
  const lengths = (size: number) => [1, size - 1, size, size + 1, Math.floor(1.5 * size) + 3]
  const queryLengths = lengths(block.q).filter((n) => capabilities.queryLength !== 'many' || n > 1)
  const dims = headDims.filter((d) => d % capabilities.headDim.multipleOf === 0 && d <= capabilities.headDim.max)
  const grid: Record<string, readonly unknown[]> = {
    queryLength: capabilities.queryLength === 'one' ? [1] : queryLengths,
    keyLength: lengths(block.k),
    heads: headCounts,
    batch: [1, 2],
    headDim: dims.length > 0 ? dims : [capabilities.headDim.multipleOf],
    dtype: capabilities.dtypes,
    causal: capabilities.causal,
    layout: ['BHLD', 'BLHD'] satisfies Layout[],
    inputs: inputKinds,
    variant: variants(definition),
    call: ['run', 'run-into', 'encode', 'parts'] satisfies Call[],
    scale: ['default', 0.25],
  }
  for (const [name, spec] of choiceOptions(definition)) grid[`choice ${name}`] = spec.choices
  const { selfAttention = false } = capabilities
  // Self-attention has one length, which then meets every other condition.
  if (selfAttention) delete grid.keyLength
  const rows = pairwise(grid as Parameters<Record<string, unknown>>, { cost: seconds })
  const sized = selfAttention ? rows.map((row) => ({ ...row, keyLength: row.queryLength })) : rows
  return [...sized.map(toCase), ...longCases(definition, block)]
}

/** About how long a case takes on a software adapter: a second to compile what no case before it has, and the work. */
function seconds(row: Record<string, unknown>, taken: readonly Record<string, unknown>[]): number {
  const compiledBy = Object.keys(row).filter((name) => /^(headDim|dtype|causal|choice .*)$/.test(name))
  const compiled = taken.some((other) => compiledBy.every((name) => other[name] === row[name]))
  const { batch, heads, queryLength, headDim, ...other } = row as unknown as Case & { heads: readonly number[] }
  const { keyLength = queryLength } = other
  return 0.2 + (compiled ? 0 : 1) + (batch * heads[1]! * queryLength * keyLength * headDim) / 5e7
}

function toCase(row: Record<string, unknown>): Case {
  const { heads, ...rest } = row as { heads: readonly [number, number] } & Record<string, unknown>
  const choices: Record<string, number | string> = {}
  for (const [name, value] of Object.entries(rest)) {
    if (!name.startsWith('choice ')) continue
    choices[name.slice('choice '.length)] = value as number | string
    delete rest[name]
  }
  const [kvHeads, queryHeads] = heads
  const c = { ...(rest as unknown as Case), queryHeads, kvHeads, choices }
  // Only a power of two keeps the scores of extreme inputs exact; others would be decided by rounding.
  return c.inputs === 'f16-extremes' ? { ...c, scale: 0.25 } : c
}

/** Lengths at which there is something to select from, and a row of a plan takes more than one word. */
function longCases<Options extends MethodOptions>(
  definition: MethodDefinition<Options>,
  block: { readonly q: number; readonly k: number },
): Case[] {
  const { capabilities } = definition
  const many = capabilities.queryLength !== 'one'
  const base = {
    batch: 1,
    queryHeads: 2,
    kvHeads: 1,
    headDim: smallHeadDim(definition),
    dtype: capabilities.dtypes[0]!,
    layout: 'BHLD',
    scale: 'default',
    call: 'run',
    choices: defaultChoices(definition),
  } as const satisfies Partial<Case>
  const square = { queryLength: many ? 5 * block.q + 9 : 1, keyLength: 5 * block.k + 9 }
  const wide = { queryLength: many ? block.q + 1 : 1, keyLength: 33 * block.k + 5 }
  const cases: Case[] = []
  for (const causal of capabilities.causal) {
    for (const variant of variants(definition)) {
      cases.push({ ...base, ...square, causal, variant, inputs: variant === 'scaled' ? 'stripes' : 'gaussian' })
    }
    cases.push({ ...base, ...square, causal, variant: 'default', inputs: 'needle' })
    cases.push({ ...base, ...square, causal, variant: 'default', inputs: 'integers' })
    cases.push({ ...base, ...square, causal, variant: 'default', inputs: 'diagonals' })
    if (!capabilities.selfAttention)
      cases.push({ ...base, ...wide, queryHeads: 1, causal, variant: 'default', inputs: 'stripes' })
  }
  return cases
}

/** A small head_dim that the method takes. */
export function smallHeadDim({ capabilities }: Pick<MethodDefinition<MethodOptions>, 'capabilities'>): number {
  const { multipleOf } = capabilities.headDim
  return Math.min(capabilities.headDim.max, Math.ceil(32 / multipleOf) * multipleOf)
}

function choiceOptions<Options extends MethodOptions>(
  definition: MethodDefinition<Options>,
): [string, OptionSpec & { type: 'choice' }][] {
  return Object.entries<OptionSpec>(definition.options).flatMap(([name, spec]) =>
    spec.type === 'choice' ? [[name, spec]] : [],
  )
}

/** Each choice at its default. */
export function defaultChoices<Options extends MethodOptions>(
  definition: MethodDefinition<Options>,
): Record<string, number | string> {
  return Object.fromEntries(choiceOptions(definition).map(([name, spec]) => [name, spec.default]))
}

function variants<Options extends MethodOptions>(definition: MethodDefinition<Options>): Variant[] {
  if (Object.keys(definition.options).length === 0) return ['default']
  const found: Variant[] = ['default', 'neutral', 'scaled']
  if (knobs(definition).length > 0) found.push('sparsest')
  if (perHeadOption(definition)) found.push('per-head')
  return found
}

/** A numeric option that the neutral options turn to one end of its range: density falls towards the other end. */
export interface Knob {
  readonly name: string
  readonly neutral: number
  readonly sparsest: number
  readonly integer: boolean
}

export function knobs<Options extends MethodOptions>(definition: MethodDefinition<Options>): Knob[] {
  return Object.entries<OptionSpec>(definition.options).flatMap(([name, spec]) => {
    const neutral = definition.neutral[name as keyof Options]
    if (spec.type === 'choice' || typeof neutral !== 'number') return []
    const sparsest = neutral === spec.max ? spec.min : neutral === spec.min ? spec.max : undefined
    const integer = spec.type === 'number' && spec.integer === true
    return sparsest === undefined ? [] : [{ name, neutral, sparsest, integer }]
  })
}

function perHeadOption<Options extends MethodOptions>(definition: MethodDefinition<Options>): string | undefined {
  return Object.entries<OptionSpec>(definition.options).find(([, spec]) => spec.type === 'per-head')?.[0]
}

/** The options of a case, to be given to the method's factory. */
export function caseOptions<Options extends MethodOptions>(
  definition: MethodDefinition<Options>,
  c: Pick<Case, 'variant' | 'choices' | 'keyLength' | 'queryHeads'>,
): Partial<Options> {
  const { choices } = c
  switch (c.variant) {
    case 'default':
      return choices as Partial<Options>
    case 'neutral':
      return { ...choices, ...definition.neutral } as Partial<Options>
    case 'scaled':
      return { ...choices, ...definition.scaled(c.keyLength) } as Partial<Options>
    case 'sparsest':
      return {
        ...choices,
        ...Object.fromEntries(knobs(definition).map((knob) => [knob.name, knob.sparsest])),
      } as Partial<Options>
    case 'per-head': {
      const name = perHeadOption(definition)!
      const spec = definition.options[name as keyof Options] as Extract<OptionSpec, { type: 'per-head' | 'per-step' }>
      const low = spec.min ?? spec.default
      const high = spec.max ?? spec.default
      const row = Array.from({ length: c.queryHeads }, (_, h) => low + ((high - low) * (h + 1)) / (c.queryHeads + 1))
      return { ...choices, [name]: [row] satisfies OptionValue } as unknown as Partial<Options>
    }
  }
}
