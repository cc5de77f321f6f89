import { defineConfig } from 'vitest/config'
import { inNode, tests } from '../test/projects.js'
import { mutant } from './mutant.js'
import { findMutation } from './mutations/index.js'
import { VerdictReporter } from './verdict-reporter.js'

/*
 * The tests of the project `node`, with one mistake in the sources. Started by `checkMutation`:
 *
 *   SPARSE_ATTENTION_MUTATION          id of the mutation; empty: none, to see that the tests pass without it
 *   SPARSE_ATTENTION_MUTATION_VERDICT  path of the file to write the verdict to
 */
const { SPARSE_ATTENTION_MUTATION: id, SPARSE_ATTENTION_MUTATION_VERDICT: verdict } = process.env
if (!verdict) throw new Error('SPARSE_ATTENTION_MUTATION_VERDICT is not set: use `pnpm test:mutation`.')

const { test, ...project } = inNode('mutated', [tests('.test.ts')])
const plugin = id ? mutant(findMutation(id)) : undefined

export default defineConfig({
  ...project,
  ...(plugin && { plugins: [plugin] }),
  test: {
    ...test,
    bail: 1,
    maxWorkers: 1,
    // A mutant may be slow, but one that never ends is none.
    testTimeout: 120_000,
    reporters: [new VerdictReporter(verdict, plugin ? plugin.applied : () => true)],
  },
})
