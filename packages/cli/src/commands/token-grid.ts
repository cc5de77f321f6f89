import { InvalidArgumentError } from 'commander'

/**
 * Parses a grid of tokens, `56,56` or `4,16,16`.
 *
 * @throws InvalidArgumentError
 */
export function tokenGrid(text: string): readonly number[] {
  const sizes = text.split(',').map((part) => Number(part.trim() || Number.NaN))
  if ([2, 3].includes(sizes.length) && sizes.every((size) => Number.isSafeInteger(size) && size > 0)) return sizes
  throw new InvalidArgumentError('It must be two or three positive integers, such as 56,56.')
}
