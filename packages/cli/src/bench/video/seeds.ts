import { InvalidArgumentError } from 'commander'

/** Seeds of videos, from the first to the last. */
export interface SeedRange {
  readonly first: number
  readonly last: number
}

/**
 * Parses `20`, which is 1 to 20, or `6-10`.
 *
 * @throws InvalidArgumentError, which commander turns into a usage error that names the flag
 */
export function seedRange(text: string): SeedRange {
  const [, from, to] = /^(?:(\d+)-)?(\d+)$/.exec(text.trim()) ?? []
  const range = { first: Number(from ?? 1), last: Number(to) }
  if (range.first >= 1 && range.last >= range.first && range.last <= 1_000_000) return range
  throw new InvalidArgumentError('It must be a number of videos, or the first and the last seed, as in 6-10.')
}

export function seedsOf({ first, last }: SeedRange): number[] {
  return Array.from({ length: last - first + 1 }, (_, i) => first + i)
}
