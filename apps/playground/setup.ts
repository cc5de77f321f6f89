import type { InputKind } from '@sparse-attention/compare'
import type { AttentionShape, DType } from '@sparse-attention/core'
import type { OptionValues } from '../shell/OptionFields.js'
import { type CallFacts, withBudgets } from './methods.js'
import type { CompareRequest, InputChoice, MethodChoice, Opened } from './requests.js'

export type Origin = InputChoice['from']

/** What a file was found to hold. */
export type FoundFile = AttentionShape & { readonly dtype: DType }

/** Everything that is chosen on the page. */
export interface Setup {
  readonly origin: Origin
  readonly causal: boolean
  readonly seed: number
  readonly kind: InputKind
  readonly dtype: DType
  readonly queryLength: number
  readonly keyLength: number
  readonly queryHeads: number
  readonly kvHeads: number
  readonly headDim: number
  /** As it is written: '16x16', '4x8x8', or nothing. */
  readonly gridText: string
  /** What tensors are captured from. */
  readonly model: Opened['model']
  readonly capturedLength: number
  readonly layer: number
  readonly file: File | undefined
  readonly found: FoundFile | undefined
  /** Two, side by side. */
  readonly methods: readonly [Chosen, Chosen]
  readonly runs: number
}

export interface Chosen {
  readonly id: string
  /** Only what was changed: the rest are budgets for the length. */
  readonly options: OptionValues
}

/** Sizes that this device is done with in a few seconds. */
export function usualSetup({ device: { software }, model }: Opened): Setup {
  const length = software ? 256 : 4096
  return {
    ...{ origin: 'made-up', causal: true, seed: 1, kind: 'stripes', dtype: 'f32' },
    ...{ queryLength: length, keyLength: length, headDim: 64, gridText: '' },
    ...(software ? { queryHeads: 2, kvHeads: 2 } : { queryHeads: 8, kvHeads: 8 }),
    ...{ model, capturedLength: software ? 256 : 2048, layer: 0, file: undefined, found: undefined },
    methods: [
      { id: 'xattention', options: {} },
      { id: 'minference-vertical-slash', options: {} },
    ],
    runs: software ? 1 : 5,
  }
}

/** The sizes of a token grid; undefined where none is given, null for what is no grid. */
export function parseGrid(text: string): readonly number[] | undefined | null {
  if (text.trim() === '') return undefined
  const sizes = text.split(/[x×,]/i).map((size) => Number(size.trim()))
  return sizes.length >= 2 && sizes.length <= 3 && sizes.every((size) => Number.isInteger(size) && size > 0)
    ? sizes
    : null
}

/** Changes the page's sizes; those of a grid, where there is one, are of all tokens. */
export function withGrid(setup: Setup, gridText: string): Setup {
  const grid = parseGrid(gridText)
  if (!grid || setup.origin !== 'made-up') return { ...setup, gridText }
  const length = grid.reduce((product, size) => product * size, 1)
  return { ...setup, gridText, kind: 'patches', causal: false, queryLength: length, keyLength: length }
}

/** What is known of the call; head_dim and length of captured tensors are those of the model. */
export function factsOf(setup: Setup): CallFacts {
  const grid = parseGrid(setup.gridText) ?? undefined
  switch (setup.origin) {
    case 'made-up': {
      const { queryLength, keyLength, headDim, causal } = setup
      return { queryLength, keyLength, headDim, causal, grid }
    }
    case 'captured':
      return {
        ...{ queryLength: setup.capturedLength, keyLength: setup.capturedLength, headDim: setup.model.headDim },
        ...{ causal: true, grid: undefined },
      }
    case 'file': {
      const { queryLength = 2, keyLength = 2, headDim = 64 } = setup.found ?? {}
      return { queryLength, keyLength, headDim, causal: setup.causal, grid }
    }
  }
}

/** The tensors that are asked for; undefined where a file is still to be chosen. */
export function inputOf(setup: Setup): InputChoice | undefined {
  const { causal, seed, kind, dtype, queryLength, keyLength, queryHeads, kvHeads, headDim } = setup
  const grid = parseGrid(setup.gridText) ?? undefined
  switch (setup.origin) {
    case 'made-up':
      return {
        ...{ from: 'made-up', kind, seed, dtype, causal, grid },
        ...{ batch: 1, queryHeads, kvHeads, queryLength, keyLength, headDim },
      }
    case 'captured':
      return { from: 'captured', length: setup.capturedLength, seed, layer: setup.layer }
    case 'file':
      return setup.file && { from: 'file', file: setup.file, causal, grid }
  }
}

export function methodsOf(setup: Setup): [MethodChoice, MethodChoice] {
  const { keyLength } = factsOf(setup)
  const [a, b] = setup.methods
  return [withBudgets(a.id, a.options, keyLength), withBudgets(b.id, b.options, keyLength)]
}

export function requestOf(setup: Setup): CompareRequest | undefined {
  const input = inputOf(setup)
  return input && { input, methods: methodsOf(setup), runs: setup.runs }
}
