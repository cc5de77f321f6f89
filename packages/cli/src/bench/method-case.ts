import { findMethod } from '@sparse-attention/compare'
import { type ConfiguredMethod, SparseAttentionError } from '@sparse-attention/core'
import { parseOptions } from '../option-values.js'

/**
 * Reads `id` or `id:name=value,name=value`. A value `n/16` is that share of the length. Options that are not given are the method's
 * budgets for the length.
 *
 * @param known ids that make sense here, and what is said of others, such as `does not run token by token`
 * @throws INVALID_ARGUMENT for another method, INVALID_OPTION
 */
export async function parseMethodCase(
  text: string,
  length: number,
  { known, refusal }: { readonly known: readonly string[]; readonly refusal: string },
): Promise<ConfiguredMethod> {
  const colon = text.indexOf(':')
  const [id, pairs] = colon < 0 ? [text, []] : [text.slice(0, colon), text.slice(colon + 1).split(',')]
  const factory = findMethod(id)
  if (!known.includes(id)) {
    throw new SparseAttentionError('INVALID_ARGUMENT', {
      message: `Method '${id}' ${refusal}.`,
      fix: `Use one of ${known.join(', ')}.`,
      where: 'case',
    })
  }
  const given = await parseOptions(
    factory.definition,
    pairs.map((pair) => ofLength(pair, length)),
    `${id}.`,
  )
  return factory({ ...factory.definition.scaled(length), ...given })
}

function ofLength(pair: string, length: number): string {
  const share = /^(\w+)=n\/(\d+)$/.exec(pair)
  return share ? `${share[1]}=${Math.max(1, Math.round(length / Number(share[2])))}` : pair
}

/**
 * Reads cases as `parseMethodCase` does. What comes out the same at this length, such as n/16 and 2048 of 32768, is there once, where
 * it comes first: it would be measured twice for nothing.
 */
export async function parseMethodCases(
  cases: readonly string[],
  length: number,
  known: Parameters<typeof parseMethodCase>[2],
): Promise<ConfiguredMethod[]> {
  const methods = new Map<string, ConfiguredMethod>()
  for (const each of cases) {
    const method = await parseMethodCase(each, length, known)
    const key = JSON.stringify([method.method.id, Object.entries(method.options).sort()])
    if (!methods.has(key)) methods.set(key, method)
  }
  return [...methods.values()]
}

/** An option's value that is given again and again. */
export function collect(value: string, before: readonly string[] = []): string[] {
  return [...before, value]
}
