/** Rounds that a winner needs, and the share of them in which it was faster. */
const ROUNDS_TO_WIN = 7
const SHARE_TO_WIN = 0.8

/** A winner must save this share of the time on average: less is not worth a second kernel. */
const LEAST_GAIN = 0.03

/** And may take this share longer in no single case. */
const MOST_LOSS = 0.03

export interface Contest {
  /** How many take part; the first is the one to beat. */
  readonly candidates: number
  /** How many cases each is timed in, e.g. lengths. */
  readonly cases: number
  /** Milliseconds of one sample of each of some candidates, taken one after the other in that order. */
  time(candidates: readonly number[], which: number): Promise<readonly number[]>
  readonly timeLeft: () => boolean
}

export interface Standing {
  /** Median of the samples in milliseconds, by case; NaN without any. */
  readonly ms: readonly number[]
  /** Time divided by that of the first candidate in the same round, the median, by case. */
  readonly ratios: readonly number[]
}

export interface Outcome {
  readonly winner: number
  readonly standings: readonly Standing[]
}

/**
 * Successive halving (Jamieson and Talwalkar, arXiv 1502.07943): in each round every candidate left is timed once in every
 * case, then the slower half goes. The first candidate stays to the end, so that each time has one beside it that was taken
 * within the same moments: clocks change while one measures.
 */
export async function successiveHalving({ candidates, cases, time, timeLeft }: Contest): Promise<Outcome> {
  /** By candidate and case, one number a round. */
  const samples = Array.from({ length: candidates }, () => Array.from({ length: cases }, (): number[] => []))
  const ratios = Array.from({ length: candidates }, () => Array.from({ length: cases }, (): number[] => []))
  const overall = (candidate: number) => geometricMean(ratios[candidate]!.map(median))

  let left = Array.from({ length: candidates - 1 }, (_, i) => i + 1)
  for (let round = 0; timeLeft() && round < ROUNDS_TO_WIN; round++) {
    // Nobody is always the one who comes first, or right after the longest pause.
    const order = [0, ...left]
    const turned = [...order.slice(round % order.length), ...order.slice(0, round % order.length)]
    for (let which = 0; which < cases; which++) {
      const times = await time(turned, which)
      const beside = times[turned.indexOf(0)]!
      for (const [i, candidate] of turned.entries()) {
        samples[candidate]![which]!.push(times[i]!)
        ratios[candidate]![which]!.push(times[i]! / beside)
      }
    }
    left = left.sort((a, b) => overall(a) - overall(b)).slice(0, Math.max(1, Math.ceil(left.length / 2)))
  }

  const wins = (candidate: number) => {
    const ofCases = ratios[candidate]!
    const rounds = ofCases[0]!.map((_, round) => geometricMean(ofCases.map((ofCase) => ofCase[round]!)))
    return (
      rounds.length >= ROUNDS_TO_WIN &&
      rounds.filter((ratio) => ratio < 1).length >= SHARE_TO_WIN * rounds.length &&
      overall(candidate) <= 1 - LEAST_GAIN &&
      ofCases.every((ofCase) => median(ofCase) <= 1 + MOST_LOSS)
    )
  }
  const [best] = left
  return {
    winner: best !== undefined && wins(best) ? best : 0,
    standings: samples.map((ofCases, candidate) => ({
      ms: ofCases.map(median),
      ratios: ratios[candidate]!.map(median),
    })),
  }
}

/** NaN of nothing. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  if (sorted.length === 0) return Number.NaN
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

/** Of positive numbers. NaN where one is NaN: sorting then leaves it where it is. */
export function geometricMean(values: readonly number[]): number {
  return Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length)
}
