import { expect, test } from 'vitest'
import { successiveHalving } from './halving.js'

/** Candidates of fixed speeds by case, measured by clocks that drift: each sample takes a little longer than the one before. */
function contest(ms: readonly (readonly number[])[], samples = Number.POSITIVE_INFINITY) {
  const counts = ms.map(() => 0)
  let taken = 0
  return {
    counts,
    candidates: ms.length,
    cases: ms[0]!.length,
    async time(candidate: number, which: number) {
      counts[candidate]!++
      return ms[candidate]![which]! * (1 + 0.001 * taken++)
    },
    timeLeft: () => taken < samples,
  }
}

test('the fastest wins, and the slow are timed less often', async () => {
  const field = contest([[10], [12], [7], [30], [11], [20], [9], [25]])
  const { winner, standings } = await successiveHalving(field)
  expect(winner).toBe(2)
  expect(standings[2]!.ratios[0]).toBeCloseTo(0.7, 1)
  expect(field.counts[3]).toBe(1)
  expect(field.counts[2]).toBe(field.counts[0])
  expect(field.counts.reduce((sum, n) => sum + n)).toBeLessThan(8 * 5)
})

test.each([
  [
    'nobody is faster',
    [
      [10, 10],
      [11, 10],
      [10, 12],
    ],
  ],
  [
    'the gain is noise',
    [
      [10, 10],
      [9.8, 9.8],
    ],
  ],
  [
    'it is faster on average and slower in one case',
    [
      [10, 10],
      [6, 10.6],
    ],
  ],
  ['there is nobody else', [[10, 10]]],
])('the first stays where %s', async (_, ms) => {
  expect((await successiveHalving(contest(ms))).winner).toBe(0)
})

test('without enough samples the first stays, and what was seen is told', async () => {
  const cut = await successiveHalving(contest([[10], [5]], 4))
  expect(cut.winner).toBe(0)
  expect(cut.standings[1]!.ratios[0]).toBeCloseTo(0.5, 1)
  const none = await successiveHalving(contest([[10], [5]], 0))
  expect(none.standings.flatMap(({ samples }) => samples.flat())).toEqual([])
  expect(none.winner).toBe(0)
})

test('what ends a sample ends the contest', async () => {
  const stop = new Error('stop')
  const field = { ...contest([[10], [5]]), time: () => Promise.reject(stop) }
  await expect(successiveHalving(field)).rejects.toBe(stop)
})
