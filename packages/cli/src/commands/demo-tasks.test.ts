import { expect, it } from 'vitest'
import { parseDocumented } from '../../test/documented-schemas.js'
import { runCaptured } from '../../test/run-captured.js'
import type { DemoTasksReport } from './demo-tasks.js'

it('counts what dense attention solves in 128 tokens', { timeout: 180_000 }, async () => {
  const argv = 'demo tasks --task needle --length 128 --method dense --samples 2 --seed 4 --json'
  const { exitCode, stdout } = await runCaptured(argv.split(' '))
  expect(exitCode).toBe(0)
  const report = parseDocumented('demo-tasks', stdout) as DemoTasksReport
  expect(report).toMatchObject({ model: 'bookworm-9m', samples: 2, seed: 4 })
  // One number in so short a text: the trained model reads it off, a broken one would not guess six digits.
  expect(report.results).toMatchObject([{ task: 'needle', length: 128, method: 'dense', correct: 2, samples: 2 }])
})

it.each<[string, string[], RegExp]>([
  ['a task that there is not', ['--task', 'riddle'], /Allowed choices are needle, multi-key, variable-tracking/],
  ['a length that is none', ['--length', '0'], /integer of at least 1/],
  ['an option that no sparse method has', ['--option', 'depth=1'], /no option 'depth'/],
  ['a length too short for the task', ['--length', '16', '--method', 'dense'], /length is/],
])('refuses %s', async (_, argv, says) => {
  const { exitCode, stdout } = await runCaptured(['demo', 'tasks', ...argv, '--json'])
  expect(exitCode).toBe(2)
  const { error } = parseDocumented('error', stdout) as { error: { message: string } }
  expect(error.message).toMatch(says)
})
