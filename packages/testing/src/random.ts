import { Random as Fractions } from '@sparse-attention/core'

/** A stream of numbers that is the same everywhere for the same seed. */
export interface Random {
  /** Uniform in [0, 1). */
  uniform(): number
  /** Uniform integer in [low, high]. */
  integer(low: number, high: number): number
  /** Standard normal. */
  gaussian(): number
}

/** Core's stream of fractions, with the distributions that inputs of tests want. */
export function createRandom(seed: number): Random {
  const fractions = new Fractions(seed)
  const uniform = (): number => fractions.fraction()
  return {
    uniform,
    integer: (low, high) => low + Math.floor(uniform() * (high - low + 1)),
    // Box–Muller; 1 − u keeps the logarithm's argument above 0.
    gaussian: () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform()),
  }
}

/** A seed from a case's name (FNV-1a), so that a case keeps its data when others are added. */
export function seedFrom(name: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193)
  return hash >>> 0
}
