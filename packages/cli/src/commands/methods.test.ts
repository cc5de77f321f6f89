import { findMethod, registry } from '@sparse-attention/compare'
import { expect, it } from 'vitest'
import { parseDocumented } from '../../test/documented-schemas.js'
import { runCaptured } from '../../test/run-captured.js'
import type { MethodsReport } from './methods.js'

it('prints what each method says of itself', async () => {
  const { exitCode, stdout, stderr } = await runCaptured(['methods', '--json'])
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' })
  const { methods } = parseDocumented('methods', stdout) as MethodsReport
  expect(methods.map(({ id }) => id)).toEqual(registry.map(({ definition }) => definition.id))
  const { definition } = findMethod('xattention')
  expect(methods.find(({ id }) => id === 'xattention')).toEqual({
    id: 'xattention',
    phase: 'prefill',
    title: definition.title,
    summary: definition.summary,
    citation: definition.citation,
    options: definition.options,
  })
})

it('prints options with ranges for people', async () => {
  const { stdout } = await runCaptured(['methods'])
  expect(stdout).toMatch(/^dense {2}\(any phase\)/m)
  expect(stdout).toMatch(/--option threshold=0.9 {2}number from 0 to 1 or a table \[layer\]\[head\]\. Share/)
  expect(stdout).toMatch(/--option stride=16 {2}one of 4, 8, 16\./)
})

it('has every id once', () => {
  const ids = registry.map(({ definition }) => definition.id)
  expect(new Set(ids).size).toBe(ids.length)
})
