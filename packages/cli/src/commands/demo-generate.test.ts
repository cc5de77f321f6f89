import { loadLanguageModel } from '@sparse-attention/models/node'
import { expect, it } from 'vitest'
import { parseDocumented } from '../../test/documented-schemas.js'
import { runCaptured } from '../../test/run-captured.js'
import type { DemoGenerateReport } from './demo-generate.js'

const base = ['demo', 'generate', '--length', '96', '--prefill-option', 'threshold=0.5']

it('writes on from the book, the same for a seed, and tells density of reading and writing', {
  timeout: 180_000,
}, async () => {
  const { exitCode, stdout, stderr } = await runCaptured([...base, '--tokens', '18', '--json'])
  expect({ exitCode, stderr: stderr.split('\n').filter((line) => !line.includes('software adapter')) }).toEqual({
    exitCode: 0,
    stderr: [''],
  })
  const report = parseDocumented('demo-generate', stdout) as DemoGenerateReport
  expect(report).toMatchObject({ seed: 1, finishReason: 'length', prompt: { tokens: 96 } })
  expect(report.tokens).toHaveLength(18)
  const { tokenizer } = await loadLanguageModel()
  expect(report.text).toBe(tokenizer.decode(report.tokens))
  // The trained model, after a book: far from the −8.3 nats of a guess among 4096 tokens.
  expect(report.logProbability).toBeGreaterThan(-5)

  const { prefill, decode } = report
  expect(prefill).toMatchObject({ method: 'xattention', options: { threshold: 0.5 } })
  expect(prefill.layers.map(({ layer, path }) => [layer, path])).toEqual(
    [0, 1, 2, 3, 4, 5, 6, 7].map((i) => [i, 'sparse']),
  )
  expect(prefill.density).toBeGreaterThan(0.5)
  // Read with the 17th token: 96 of the prompt, and 16 more.
  expect(decode).toMatchObject({
    method: 'dense',
    density: 1,
    layers: new Array(8).fill({ path: 'dense', keysPerQuery: 112 }).map((layer) => expect.objectContaining(layer)),
  })
  expect(decode.tokensPerSecond).toBeCloseTo(1000 / decode.tokenMs!, 9)

  const again = await runCaptured([...base, '--tokens', '2'], undefined, { screen: true })
  expect(again.exitCode).toBe(0)
  expect(again.stdout).toBe(`${tokenizer.decode(report.tokens.slice(0, 2))}\n`)
  const lines = again.stderr.split('\r\x1b[K')
  const reading = `density ${prefill.density!.toFixed(3)} reading`
  expect(lines).toEqual(
    expect.arrayContaining([
      'reading 96 tokens with xattention …',
      `1 token, ${reading}`,
      expect.stringMatching(new RegExp(`^2 tokens, \\d+\\.\\d tokens/s, ${reading}$`)),
    ]),
  )
  expect(lines.at(-1)).toMatch(
    /Read 96 tokens with xattention .*\nWrote 2 with dense \(.*\), density not measured, .* tokens\/s\.\nTier/,
  )
})

it.each<[string, string[], RegExp]>([
  [
    'more than the model was trained on',
    ['--length', '16384'],
    /Prompt and text are 164\d\d tokens.* trained on 16384/,
  ],
  ['a prompt and a length', ['--prompt', 'It is', '--length', '9'], /a prompt and a length/],
  ['a method that does not prefill', ['--prefill', 'none'], /Allowed choices are .*dense.*xattention/],
  ['a method that does not decode', ['--decode', 'xattention'], /Allowed choices are .*dense/],
  ['a temperature that is none', ['--temperature', 'hot'], /must be a number/],
  ['a temperature below 0', ['--prompt', 'It', '--temperature', '-1'], /temperature is -1/],
])('refuses %s', { timeout: 60_000 }, async (_, argv, says) => {
  const { exitCode, stdout } = await runCaptured(['demo', 'generate', ...argv, '--json'])
  expect(exitCode).toBe(2)
  const { error } = parseDocumented('error', stdout) as { error: { message: string } }
  expect(error.message).toMatch(says)
})

it('stops when cancelled in the middle, behind what it has written', { timeout: 60_000 }, async () => {
  const controller = new AbortController()
  const running = runCaptured(['demo', 'generate', '--prompt', 'It is a truth', '--tokens', '4000'], controller.signal)
  setTimeout(() => controller.abort(), 8000)
  const { exitCode, stdout, stderr } = await running
  expect(exitCode).toBe(130)
  expect(stdout).toMatch(/^(.+\n)?$/s)
  expect(stderr).toMatch(/sparse-attention: Cancelled\.\n$/)
})
