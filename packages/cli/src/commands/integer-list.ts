import { InvalidArgumentError } from 'commander'

/** Parses `8192,32768`: integers of at least 1, each once. */
export function integerList(text: string): number[] {
  const values = text.split(',').map((part) => Number(part.trim() || Number.NaN))
  if (values.every((value) => Number.isSafeInteger(value) && value > 0)) return [...new Set(values)]
  throw new InvalidArgumentError('It must be a list of positive integers, such as 1024,4096.')
}
