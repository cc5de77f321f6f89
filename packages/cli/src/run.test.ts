import { expect, it } from 'vitest'
import { parseDocumented } from '../test/documented-schemas.js'
import { runCaptured } from '../test/run-captured.js'
import { cliVersion } from './package-info.js'

it('prints help and version on stdout', async () => {
  const help = await runCaptured(['--help'])
  expect(help).toMatchObject({ exitCode: 0, stderr: '' })
  for (const verb of ['doctor', 'methods', 'attend', 'demo'])
    expect(help.stdout).toMatch(new RegExp(`^  ${verb} `, 'm'))
  expect(await runCaptured(['--version'])).toEqual({ exitCode: 0, stdout: `${cliVersion}\n`, stderr: '' })
})

it.each([
  ['no verb', []],
  ['an unknown verb', ['atend']],
  ['an unknown flag', ['methods', '--yaml']],
  ['an argument too many', ['methods', 'dense']],
  ['half a verb', ['demo']],
  ['an unknown verb behind one', ['bench', 'decod']],
])('refuses %s with one sentence and exit code 2', async (_, argv) => {
  const { exitCode, stdout, stderr } = await runCaptured(argv)
  expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: '' })
  expect(stderr).toMatch(/^(Usage: [\s\S]*\n)?sparse-attention: [A-Z][^\n]*[.?] Run it with --help [^\n]*\.\n$/)
})

it('takes an unknown verb behind one for a verb, not for an argument', async () => {
  expect((await runCaptured(['bench', 'decod'])).stderr).toMatch(/Unknown command 'decod'\./)
})

it('suggests the verb that was meant', async () => {
  const { stderr } = await runCaptured(['atend'])
  expect(stderr).toMatch(/Did you mean attend\?/)
})

it('prints one object for a wrong command line too', async () => {
  const { exitCode, stdout } = await runCaptured(['methods', '--json', '--yaml'])
  expect(exitCode).toBe(2)
  expect(parseDocumented('error', stdout)).toMatchObject({ error: { code: 'INVALID_ARGUMENT' } })
})
