import { findMethod } from '@sparse-attention/compare'
import {
  type ConfiguredMethod,
  type MethodFactory,
  type OptionValue,
  SparseAttentionError,
} from '@sparse-attention/core'
import { dense } from '@sparse-attention/kernels'
import { parseOptions } from '../option-values.js'

/** A method to compare, with the options that were given for it. */
export interface ChosenMethod {
  readonly factory: MethodFactory
  readonly given: Readonly<Record<string, OptionValue>>
}

/**
 * The methods of a list `a,b,c`, dense before them: it is the baseline whether it is in the list or not.
 *
 * @param pairs `method.name=value`
 * @throws INVALID_ARGUMENT for a method that does not exist or is listed twice, INVALID_OPTION for an option of a method
 *   that is not compared or does not have it, INVALID_FILE
 */
export async function chooseMethods(list: string, pairs: readonly string[]): Promise<ChosenMethod[]> {
  const ids = list.split(',').map((id) => id.trim())
  const factories = ids.map(findMethod)
  const twice = ids.find((id, i) => ids.indexOf(id) < i)
  if (twice !== undefined) {
    throw new SparseAttentionError('INVALID_ARGUMENT', {
      message: `Method '${twice}' is listed twice.`,
      fix: 'List it once; run again to compare it under other options.',
      where: 'methods',
    })
  }
  const baseline = dense as MethodFactory
  const compared = [baseline, ...factories.filter(({ definition }) => definition.id !== baseline.definition.id)]
  const pairsOf = groupPairs(
    pairs,
    compared.map(({ definition }) => definition.id),
  )
  return Promise.all(
    compared.map(async (factory) => {
      const { id } = factory.definition
      return { factory, given: await parseOptions(factory.definition, pairsOf.get(id) ?? [], `${id}.`) }
    }),
  )
}

/**
 * @param scaledTo a key length: options that were not given are the method's budgets for it, not its defaults
 * @throws INVALID_OPTION for a value out of range
 */
export function configure({ factory, given }: ChosenMethod, scaledTo: number | undefined): ConfiguredMethod {
  return factory({ ...(scaledTo === undefined ? {} : factory.definition.scaled(scaledTo)), ...given })
}

/** `name=value` pairs by method. */
function groupPairs(pairs: readonly string[], ids: readonly string[]): Map<string, string[]> {
  const groups = new Map<string, string[]>()
  for (const pair of pairs) {
    const name = pair.split('=', 1)[0]!
    const dot = name.indexOf('.')
    if (dot < 1) {
      throw new SparseAttentionError('INVALID_OPTION', {
        message: `Option '${name}' names no method.`,
        fix: `Write method.name=value, where the method is one of ${ids.join(', ')}.`,
        where: name,
      })
    }
    const id = name.slice(0, dot)
    if (!ids.includes(id)) {
      throw new SparseAttentionError('INVALID_OPTION', {
        message: `Option '${name}' is for '${id}', which is not compared.`,
        fix: `Add it to --methods, or leave the option out; compared are ${ids.join(', ')}.`,
        where: name,
      })
    }
    groups.set(id, [...(groups.get(id) ?? []), pair.slice(dot + 1)])
  }
  return groups
}
