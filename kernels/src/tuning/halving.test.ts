import { expect, test } from 'vitest'
import { successiveHalving } from './halving.js'

/** Candidates of fixed speeds by case, measured by clocks that drift: each sample takes a little longer than the one before. */
function contest(ms: readonly (readonly number[])[], rounds = Number.POSITIVE_INFINITY) {
  const counts = ms.map(() => 0)
  let taken = 0
  return {
    counts,
    candidates: ms.length,
    cases: ms[0]!.length,
    async time(candidates: readonly number[], which: number) {
      return candidates.map((candidate) => {
        counts[candidate]!++
        return ms[candidate]![which]! * (1 + 0.001 * taken++)
      })
    },
    timeLeft: () => counts[0]! < rounds * ms[0]!.length,
  }
}

test('the fastest wins, and the slow are timed less often', async () => {
  const field = contest([[10], [12], [7], [30], [11], [20], [9], [25]])
  const { winner, standings } = await successiveHalving(field)
  expect(winner).toBe(2)
  expect(standings[2]!.ratios[0]).toBeCloseTo(0.7, 1)
  expect(field.counts[3]).toBe(1)
  expect(field.counts[2]).toBe(field.counts[0])
  expect(field.counts.reduce((sum, n) => sum + n)).toBeLessThan(8 * 4)
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

test('what is faster on average and slower half the time has not won', async () => {
  let round = 0
  const field = contest([[10], [5]])
  const time = async (candidates: readonly number[]) => {
    const other = round++ % 2 === 0 ? 5 : 11
    return candidates.map((candidate) => (candidate === 0 ? 10 : other))
  }
  const { winner, standings } = await successiveHalving({ ...field, time })
  expect(standings[1]!.ratios[0]).toBe(0.5)
  expect(winner).toBe(0)
})

test('without enough rounds the first stays, and what was seen is told', async () => {
  const cut = await successiveHalving(contest([[10], [5]], 4))
  expect(cut.winner).toBe(0)
  expect(cut.standings[1]!.ratios[0]).toBeCloseTo(0.5, 1)
  const none = await successiveHalving(contest([[10], [5]], 0))
  expect(none).toEqual({ winner: 0, standings: [1, 2].map(() => ({ ms: [Number.NaN], ratios: [Number.NaN] })) })
})

test('what ends a sample ends the contest', async () => {
  const stop = new Error('stop')
  const field = { ...contest([[10], [5]]), time: () => Promise.reject(stop) }
  await expect(successiveHalving(field)).rejects.toBe(stop)
})
