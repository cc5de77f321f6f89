import { InvalidArgumentError } from 'commander'

/**
 * Parses a grid of tokens, `56,56` or `4x16x16`.
 *
 * @throws InvalidArgumentError
 */
export function tokenGrid(text: string): readonly number[] {
  const sizes = text.split(/[,x]/).map((part) => Number(part.trim() || Number.NaN))
  if ([2, 3].includes(sizes.length) && sizes.every((size) => Number.isSafeInteger(size) && size > 0)) return sizes
  throw new InvalidArgumentError('It must be two or three positive integers, such as 56x56.')
}

/**
 * Parses grids of tokens, `56x56,112x112`.
 *
 * @throws InvalidArgumentError
 */
export function tokenGrids(text: string): readonly (readonly number[])[] {
  return text.split(',').map(tokenGrid)
}
