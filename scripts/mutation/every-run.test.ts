import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { checkMutation } from './check-mutation.js'
import { allMutations } from './mutations/index.js'

// What the README's test command has time for: that every mutation still fits the sources, and that a few are caught.
// `pnpm test:mutation` tries all of them.

const root = join(import.meta.dirname, '..', '..')
const read = (file: string) => readFile(join(root, file), 'utf8')

test('mutations have names of their own', () => {
  expect(new Set(allMutations.map(({ id }) => id)).size).toBe(allMutations.length)
})

test.each(allMutations)('$id: its text stands in $file once, and is changed', async ({ file, find, replace }) => {
  expect((await read(file)).split(find).length - 1).toBe(1)
  expect(replace).not.toBe(find)
})

const fewMutations = allMutations.filter(({ everyRun }) => everyRun)

describe('is caught', () => {
  test.each(fewMutations)(
    '$id: $mistake',
    async (mutation) => {
      expect(await checkMutation(mutation)).toMatchObject({ verdict: 'caught' })
    },
    300_000,
  )

  test('a mutation that changes nothing survives, so the others are caught for what they do', async () => {
    const [{ file, find, caughtBy }] = fewMutations as [(typeof fewMutations)[0]]
    expect(await read(file)).toContain(find)
    expect(await checkMutation({ id: '', mistake: '', file, find, replace: find, caughtBy })).toMatchObject({
      verdict: 'survived',
    })
  }, 300_000)
})
