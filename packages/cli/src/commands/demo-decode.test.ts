import { expect, it } from 'vitest'
import { parseDocumented } from '../../test/documented-schemas.js'
import { runCaptured } from '../../test/run-captured.js'
import type { DemoDecodeReport } from './demo-decode.js'

it('compares a method with dense decoding on the same text and needle', { timeout: 180_000 }, async () => {
  const argv = 'demo decode --method sink-window --option localWindow=16 --length 64 --tokens 16 --samples 1 --json'
  const { exitCode, stdout } = await runCaptured(argv.split(' '))
  expect(exitCode).toBe(0)
  const { results, ...report } = parseDocumented('demo-decode', stdout) as DemoDecodeReport
  expect(report).toMatchObject({ model: 'bookworm-9m', length: 64, tokens: 16, samples: 1, seed: 1 })
  const [dense, sparse] = results
  expect(dense).toMatchObject({ method: 'dense', density: 1, agreement: 1, samePrefix: 16 })
  expect(sparse).toMatchObject({ method: 'sink-window', options: expect.objectContaining({ localWindow: 16 }) })
  expect(sparse!.density).toBeLessThan(0.9)
  expect(sparse!.samePrefix).toBeLessThanOrEqual(16 * sparse!.agreement)
})

it.each<[string, string[], RegExp]>([
  ['a prompt without room for a needle', ['--length', '20'], /at least 64/],
  ['more than the model was trained on', ['--length', '16384'], /16384 together/],
  ['a method that does not decode', ['--method', 'xattention'], /Allowed choices are .*quest/],
])('refuses %s', { timeout: 60_000 }, async (_, argv, says) => {
  const { exitCode, stdout } = await runCaptured(['demo', 'decode', ...argv, '--json'])
  expect(exitCode).toBe(2)
  const { error } = parseDocumented('error', stdout) as { error: { message: string } }
  expect(error.message).toMatch(says)
})
