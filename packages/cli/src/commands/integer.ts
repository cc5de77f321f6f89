import { InvalidArgumentError } from 'commander'

/**
 * Parses a flag's value.
 *
 * @throws InvalidArgumentError, which commander turns into a usage error that names the flag
 */
export function integer(least: number): (text: string) => number {
  return (text) => {
    const value = Number(text)
    if (text.trim() !== '' && Number.isSafeInteger(value) && value >= least) return value
    throw new InvalidArgumentError(`It must be an integer of at least ${least}.`)
  }
}
