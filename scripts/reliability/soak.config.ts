import { defineConfig } from 'vitest/config'
import { inNode } from '../test/projects.js'

/*
 * `pnpm test:soak`: many runs of every method, and a fifth as many of a model's prompt, text and video, at constant memory; two
 * runtimes and many requests at once on one device.
 *
 *   SPARSE_ATTENTION_SOAK_RUNS  of each method; default 1000
 */

const runs = Number(process.env.SPARSE_ATTENTION_SOAK_RUNS ?? 1000)
if (!Number.isSafeInteger(runs) || runs < 20) throw new Error('Give an integer of at least 20 runs.')

const project = inNode('soak', ['scripts/reliability/soak*.test.ts'])

export default defineConfig({
  ...project,
  test: {
    ...project.test,
    execArgv: ['--expose-gc'],
    testTimeout: 60_000 + 3000 * runs,
    provide: { sparseAttentionSoak: runs },
  },
})
