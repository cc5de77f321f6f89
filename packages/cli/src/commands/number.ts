import { InvalidArgumentError } from 'commander'

/**
 * Parses a flag's value.
 *
 * @throws InvalidArgumentError, which commander turns into a usage error that names the flag
 */
export function number(text: string): number {
  const value = Number(text)
  if (text.trim() !== '' && Number.isFinite(value)) return value
  throw new InvalidArgumentError('It must be a number.')
}
