import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { Mutation, Outcome } from './mutation.js'

const root = join(import.meta.dirname, '..', '..')
const vitest = join(dirname(createRequire(import.meta.url).resolve('vitest/package.json')), 'vitest.mjs')

/** Longer than any of the tests takes: a mutant that hangs is void. */
const timeoutMs = 240_000

/** Runs the tests that should catch a mutation, with the mutation. */
export function checkMutation(mutation: Mutation): Promise<Outcome> {
  return runTests(mutation.caughtBy, mutation.id)
}

/** Runs the tests that should catch a mutation, without it: where they fail anyway, they catch nothing. */
export function checkUnmutated(mutation: Mutation): Promise<Outcome> {
  return runTests(mutation.caughtBy, '')
}

async function runTests({ file, name }: Mutation['caughtBy'], id: string): Promise<Outcome> {
  const folder = await mkdtemp(join(tmpdir(), 'mutation-'))
  const verdict = join(folder, 'verdict.json')
  const start = performance.now()
  const seconds = () => (performance.now() - start) / 1000
  try {
    const args = ['run', '--config', join(import.meta.dirname, 'mutated.config.ts'), file, '-t', literal(name)]
    const output = await execute(args, {
      SPARSE_ATTENTION_MUTATION: id,
      SPARSE_ATTENTION_MUTATION_VERDICT: verdict,
    })
    const found = await readFile(verdict, 'utf8').catch(() => undefined)
    if (found === undefined) {
      return { verdict: 'void', by: 'the test runner', message: output, cases: 0, seconds: seconds() }
    }
    return { ...(JSON.parse(found) as Omit<Outcome, 'seconds'>), seconds: seconds() }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** Runs vitest to its end, however it ends, and tells the last of what it printed. */
function execute(args: readonly string[], more: NodeJS.ProcessEnv): Promise<string> {
  const inherited = Object.entries(process.env).filter(([name]) => !/^(VITEST|SPARSE_ATTENTION_TEST)/.test(name))
  const env = { ...Object.fromEntries(inherited), ...more }
  return new Promise((resolve) => {
    execFile(process.execPath, [vitest, ...args], { cwd: root, env, timeout: timeoutMs }, (_, stdout, stderr) => {
      resolve(`${stdout}\n${stderr}`.trim().split('\n').slice(-3).join(' '))
    })
  })
}

/** A pattern that matches nothing but the text. */
function literal(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
}
