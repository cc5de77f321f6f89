import { writeFileSync } from 'node:fs'
import type { Reporter, SerializedError, TestCase, TestModule } from 'vitest/node'
import type { Outcome } from './mutation.js'

/** Errors that say that something could not be found out, also when a test's own expectation carries them. */
const inconclusive = /PIPELINE_FAILED|DEVICE_LOST|WEBGPU_UNAVAILABLE|timed out|Cannot find module/

/** Writes to a file what a run says about a mutant: whether a check failed, and not merely whether the run did. */
export class VerdictReporter implements Reporter {
  constructor(
    private readonly path: string,
    /** Whether the mutated module was loaded; true for a run without a mutation. */
    private readonly applied: () => boolean,
  ) {}

  onTestRunEnd(modules: readonly TestModule[], errors: readonly SerializedError[]): void {
    const cases = modules.flatMap((module) => [...module.children.allTests()])
    const ended = cases.filter((test) => ['passed', 'failed'].includes(test.result().state))
    const report = { ...judge(modules, errors, ended, this.applied()), cases: ended.length }
    writeFileSync(this.path, JSON.stringify(report))
  }
}

function judge(
  modules: readonly TestModule[],
  errors: readonly SerializedError[],
  ended: readonly TestCase[],
  applied: boolean,
): Pick<Outcome, 'verdict' | 'by' | 'message'> {
  const outside = [...errors, ...modules.flatMap((module) => [...module.errors(), ...suiteErrors(module)])]
  if (outside[0]) return { verdict: 'void', by: 'outside of the cases', message: firstLine(outside[0].message) }
  if (!applied) return { verdict: 'void', by: 'the module', message: 'The tests do not load it.' }
  if (ended.length === 0) return { verdict: 'void', by: 'the name', message: 'No case has it.' }
  let unclear: { test: TestCase; message: string } | undefined
  for (const test of ended) {
    for (const error of test.result().errors ?? []) {
      const message = firstLine(error.message)
      if (isCheck(error)) return { verdict: 'caught', by: test.fullName, message }
      unclear ??= { test, message }
    }
  }
  if (unclear) return { verdict: 'void', by: unclear.test.fullName, message: unclear.message }
  return { verdict: 'survived', by: '', message: '' }
}

function suiteErrors(module: TestModule): SerializedError[] {
  return [...module.children.allSuites()].flatMap((suite) => suite.errors())
}

/** An expectation of a test, or a plain error that a test or a rule of the conformance suite throws. */
function isCheck(error: SerializedError): boolean {
  if (inconclusive.test(error.message)) return false
  if (error.name === 'AssertionError') return true
  return error.name === 'Error' && /\/packages\/testing\/src\/|\/test-frame\.ts|\.test\.ts/.test(thrownBy(error))
}

/** The first place in this repository on the error's stack. */
function thrownBy({ stack = '' }: SerializedError): string {
  return stack.split('\n').find((line) => line.includes('/src/') && !line.includes('node_modules')) ?? ''
}

function firstLine(text: string): string {
  return text.split('\n', 1)[0]!.trim()
}
