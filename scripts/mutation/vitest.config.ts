import { join } from 'node:path'
import { defineConfig } from 'vitest/config'
import { MutationReporter } from './mutation-reporter.js'

/*
 * `pnpm test:mutation`: makes each mistake of `mutations/` in turn and sees whether the tests notice. Takes some
 * minutes. `-t top-p` picks mutations, `--reporter=json` prints JSON with an `outcome` in each case's `meta`.
 * A whole run writes `docs/mutation.md`.
 */

const root = join(import.meta.dirname, '..', '..')

export default defineConfig({
  root,
  test: {
    name: 'mutation',
    include: ['scripts/mutation/all-mutations.ts'],
    pool: 'forks',
    reporters: ['default', new MutationReporter(join(root, 'docs', 'mutation.md'))],
  },
})
