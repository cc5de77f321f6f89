import { describe, expect, test } from 'vitest'
import { checkMutation, checkUnmutated } from './check-mutation.js'
import type { Mutation, Outcome } from './mutation.js'
import { mutations } from './mutations/index.js'

declare module 'vitest' {
  interface TaskMeta {
    mutation?: Mutation
    outcome?: Outcome
  }
}

/** Tests that several mutations share are run once without any. */
const unmutated = new Map<string, Promise<Outcome>>()

function passesUnmutated(mutation: Mutation): Promise<Outcome> {
  const key = JSON.stringify(mutation.caughtBy)
  const known = unmutated.get(key) ?? checkUnmutated(mutation)
  unmutated.set(key, known)
  return known
}

for (const [subject, list] of Object.entries(mutations)) {
  describe(subject, () => {
    test.for(list)('$id', { timeout: 600_000 }, async (mutation, { task: { meta } }) => {
      meta.mutation = mutation
      expect(await passesUnmutated(mutation), 'its tests, without the mutation').toMatchObject({ verdict: 'survived' })
      meta.outcome = await checkMutation(mutation)
      expect(meta.outcome).toMatchObject({ verdict: 'caught' })
    })
  })
}
