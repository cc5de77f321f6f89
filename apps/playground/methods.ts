import { findMethod, registry } from '@sparse-attention/compare'
import type { AttentionShape, ConfiguredMethod, MethodDefinition, MethodOptions } from '@sparse-attention/core'
import type { OptionValues } from '../shell/OptionFields.js'
import type { MethodChoice } from './requests.js'

export type Definition = MethodDefinition<MethodOptions>

export const definitions: readonly Definition[] = registry.map(({ definition }) => definition)

export function definitionOf(id: string): Definition {
  return findMethod(id).definition
}

/** @throws INVALID_OPTION for a value out of range */
export function configured({ id, options }: MethodChoice): ConfiguredMethod {
  return findMethod(id)(options)
}

/** All options of a method at a length: what was chosen, else its budget for the length, else its default. */
export function withBudgets(id: string, chosen: OptionValues, keyLength: number): MethodChoice {
  const factory = findMethod(id)
  return { id, options: { ...factory.definition.scaled(keyLength), ...chosen } as OptionValues }
}

/** What is known of a call before it is made. */
export interface CallFacts extends Pick<AttentionShape, 'queryLength' | 'keyLength' | 'headDim'> {
  readonly causal: boolean
  readonly grid: readonly number[] | undefined
}

/** Why a method does not take a call, in a few words; undefined where it does. */
export function whyNot({ capabilities }: Definition, call: CallFacts): string | undefined {
  const { causal, queryLength, headDim, grid = 'none', gridAxes = [2, 3], selfAttention } = capabilities
  if (!causal.includes(call.causal)) return call.causal ? 'not for causal attention' : 'only for causal attention'
  if (queryLength === 'one' && call.queryLength !== 1) return 'only for one query'
  if (queryLength === 'many' && call.queryLength === 1) return 'for more than one query'
  if (call.headDim > headDim.max || call.headDim % headDim.multipleOf !== 0) return `not for head_dim ${call.headDim}`
  if (grid === 'required' && call.grid === undefined) return 'needs a token grid'
  if (grid !== 'none' && call.grid && !gridAxes.includes(call.grid.length)) return `needs ${gridAxes.join(' or ')} axes`
  if (selfAttention && call.queryLength !== call.keyLength) return 'only for as many queries as keys'
  return undefined
}
