/** Samples of each case that a winner needs. */
const ROUNDS_TO_WIN = 5

/** A winner must save this share of the time on average: less is noise, and not worth a second kernel. */
const LEAST_GAIN = 0.03

/** And may take this share longer in no single case. */
const MOST_LOSS = 0.03

export interface Contest {
  /** How many take part; the first is the one to beat. */
  readonly candidates: number
  /** How many cases each is timed in, e.g. lengths. */
  readonly cases: number
  /** Milliseconds of one sample. */
  time(candidate: number, which: number): Promise<number>
  readonly timeLeft: () => boolean
}

export interface Standing {
  /** Samples in milliseconds, by case. */
  readonly samples: readonly (readonly number[])[]
  /** Time divided by that of the first candidate in the same round, the median, by case; NaN without a sample. */
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
  const samples = Array.from({ length: candidates }, () => Array.from({ length: cases }, (): number[] => []))
  const ratios = Array.from({ length: candidates }, () => Array.from({ length: cases }, (): number[] => []))
  const ratioOf = (candidate: number, which: number) => median(ratios[candidate]![which]!)
  const overall = (candidate: number) => geometricMean(samples[candidate]!.map((_, which) => ratioOf(candidate, which)))

  let left = Array.from({ length: candidates - 1 }, (_, i) => i + 1)
  for (let round = 0; timeLeft() && (round < ROUNDS_TO_WIN || left.length > 1); round++) {
    for (let which = 0; which < cases; which++) {
      // Nobody is always the one who comes first, or right after the longest pause.
      const order = [0, ...left]
      const turned = [...order.slice(round % order.length), ...order.slice(0, round % order.length)]
      const times = new Map<number, number>()
      for (const candidate of turned) {
        if (!timeLeft()) break
        times.set(candidate, await time(candidate, which))
      }
      const beside = times.get(0)
      for (const [candidate, ms] of times) {
        samples[candidate]![which]!.push(ms)
        if (beside !== undefined) ratios[candidate]![which]!.push(ms / beside)
      }
    }
    left = left.sort((a, b) => overall(a) - overall(b)).slice(0, Math.max(1, Math.ceil(left.length / 2)))
  }
  const [best] = left
  const wins =
    best !== undefined &&
    ratios[best]!.every((all) => all.length >= ROUNDS_TO_WIN && median(all) <= 1 + MOST_LOSS) &&
    overall(best) <= 1 - LEAST_GAIN
  return {
    winner: wins ? best : 0,
    standings: samples.map((ofCase, candidate) => ({
      samples: ofCase,
      ratios: ofCase.map((_, which) => ratioOf(candidate, which)),
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
