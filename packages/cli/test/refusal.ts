import { expect } from 'vitest'
import { parseDocumented } from './documented-schemas.js'
import { runCaptured } from './run-captured.js'

/** Runs a command line that must be refused as bad input, in one sentence on stderr and as the one object on stdout. */
export async function refusal(argv: readonly string[]): Promise<{ code: string; message: string; fix: string }> {
  const { exitCode, stdout, stderr } = await runCaptured([...argv, '--json'])
  expect(exitCode).toBe(2)
  const { error } = parseDocumented('error', stdout) as { error: { code: string; message: string; fix: string } }
  const lines = stderr.split('\n').filter((line) => !line.includes('using a software adapter'))
  expect(lines).toEqual([`sparse-attention: ${error.message}`, ''])
  return error
}
