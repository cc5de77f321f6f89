import { mean, median } from '@sparse-attention/compare'
import { type ConfiguredMethod, type OptionValue, SparseAttentionError } from '@sparse-attention/core'

/** One video of a method, beside the dense one from the same noise. */
export interface FrontierSample {
  readonly seed: number
  /** How often the model ran. */
  readonly evaluations: number
  readonly psnr: number
  readonly ssim: number
  /** ‖x − dense x‖₂ ÷ ‖dense x‖₂ of the final latents. */
  readonly error: number
  /** Kept pairs ÷ all pairs, dense steps and layers included; null: nobody looked. */
  readonly density: number | null
  /** Planning and attention, where somebody looked. */
  readonly attentionMs: number | null
  /** Of the whole video; null: it was looked into, or not timed. */
  readonly totalMs: number | null
  /** Of a pass through the model, means: until everything was handed to the GPU, and from then until its output was on the CPU. */
  readonly hostMs: number | null
  readonly waitMs: number | null
}

/** Samples as columns: each field's values, one for each of the seeds. */
export type SampleColumns = Readonly<Record<keyof FrontierSample, readonly (number | null)[]>>

/** Of several videos: their mean, spread and worst. */
export interface Quality {
  readonly mean: number
  /** Standard deviation over the videos. */
  readonly spread: number
  readonly least: number
}

/** What identifies a case. */
export interface CaseName {
  readonly method: string
  readonly options: Readonly<Record<string, OptionValue>>
  /** Threshold of a step cache; null: without. */
  readonly stepCache: number | null
}

export interface FrontierResult extends CaseName {
  /** How often the model ran for a video, mean. */
  readonly evaluations: number
  /** Kept pairs ÷ all pairs, mean of the videos that were looked into; null: none was. */
  readonly density: number | null
  /** To the dense video from the same noise. */
  readonly psnr: Quality
  readonly ssim: Quality
  /** Mean. */
  readonly error: number
  /** Median of the videos that were timed; null: none was. */
  readonly totalMs: number | null
  readonly hostMs: number | null
  readonly waitMs: number | null
  /** Median over seeds of dense time ÷ this time. */
  readonly speedUp: number | null
  readonly attentionMs: number | null
  readonly attentionSpeedUp: number | null
  readonly samples: SampleColumns
}

/** What is kept of one case while videos come in. */
export interface CaseSamples extends CaseName {
  readonly samples: FrontierSample[]
}

export function nameOfCase({
  method,
  stepCache,
}: {
  readonly method: ConfiguredMethod
  readonly stepCache?: number
}): CaseName {
  return { method: method.method.id, options: method.options, stepCache: stepCache ?? null }
}

const fields = [
  'seed',
  'evaluations',
  'psnr',
  'ssim',
  'error',
  'density',
  'attentionMs',
  'totalMs',
  'hostMs',
  'waitMs',
] as const satisfies readonly (keyof FrontierSample)[]

/** Decimals that are kept. */
const decimals: Readonly<Record<(typeof fields)[number], number>> = {
  ...{ seed: 0, evaluations: 0, psnr: 4, ssim: 5, error: 6, density: 5 },
  ...{ attentionMs: 1, totalMs: 1, hostMs: 2, waitMs: 2 },
}

/** As files have it, so that what is computed from one is what was printed. */
function rounded(sample: FrontierSample): FrontierSample {
  const entry = (field: (typeof fields)[number]) => {
    const value = sample[field]
    return [field, value === null ? null : Number(value.toFixed(decimals[field]))]
  }
  return Object.fromEntries(fields.map(entry)) as unknown as FrontierSample
}

function toColumns(samples: readonly FrontierSample[]): SampleColumns {
  const column = (field: (typeof fields)[number]) => samples.map((sample) => sample[field])
  return Object.fromEntries(fields.map((field) => [field, column(field)])) as unknown as SampleColumns
}

/** The samples that a result was made of. */
export function samplesOf({ samples, ...result }: FrontierResult): CaseSamples {
  const rows = samples.seed.map(
    (_, i) =>
      Object.fromEntries(fields.map((field) => [field, samples[field][i] ?? null])) as unknown as FrontierSample,
  )
  const { method, options, stepCache } = result
  return { method, options, stepCache, samples: rows }
}

/**
 * Summaries of all cases.
 *
 * @param cases dense first, by whose times the others' are divided
 */
export function summarise(cases: readonly CaseSamples[]): FrontierResult[] {
  const exact = new Map(cases[0]!.samples.map((sample) => [sample.seed, rounded(sample)]))
  return cases.map(({ samples: unsorted, ...name }) => {
    const samples = unsorted.map(rounded).sort((a, b) => a.seed - b.seed)
    const given = (field: (typeof fields)[number]) => samples.flatMap(({ [field]: value }) => value ?? [])
    const middle = (values: readonly number[]) => (values.length > 0 ? median(values) : null)
    const ratios = (field: 'totalMs' | 'attentionMs') =>
      samples.flatMap((sample) => {
        const [dense, ours] = [exact.get(sample.seed)?.[field], sample[field]]
        return dense != null && ours != null ? dense / ours : []
      })
    const densities = given('density')
    return {
      ...name,
      evaluations: mean(given('evaluations')),
      density: densities.length > 0 ? mean(densities) : null,
      psnr: qualityOf(given('psnr')),
      ssim: qualityOf(given('ssim')),
      error: mean(given('error')),
      totalMs: middle(given('totalMs')),
      hostMs: middle(given('hostMs')),
      waitMs: middle(given('waitMs')),
      speedUp: middle(ratios('totalMs')),
      attentionMs: middle(given('attentionMs')),
      attentionSpeedUp: middle(ratios('attentionMs')),
      samples: toColumns(samples),
    }
  })
}

/**
 * Samples of the same cases, of other seeds or of the same: of one video, what one run did not measure is taken from another.
 *
 * @throws INVALID_ARGUMENT without any
 */
export function mergeSamples(parts: readonly (readonly CaseSamples[])[]): CaseSamples[] {
  const merged = new Map<string, { name: CaseName; seeds: Map<number, FrontierSample> }>()
  for (const { samples, ...name } of parts.flat()) {
    const key = JSON.stringify([name.method, name.stepCache, Object.entries(name.options).sort()])
    const known = merged.get(key) ?? { name, seeds: new Map<number, FrontierSample>() }
    merged.set(key, known)
    for (const sample of samples) {
      const before = known.seeds.get(sample.seed)
      const filled = before && Object.entries(before).map(([field, value]) => [field, value ?? sample[field as 'seed']])
      known.seeds.set(sample.seed, filled ? (Object.fromEntries(filled) as FrontierSample) : sample)
    }
  }
  if (merged.size > 0) return [...merged.values()].map(({ name, seeds }) => ({ ...name, samples: [...seeds.values()] }))
  throw new SparseAttentionError('INVALID_ARGUMENT', {
    message: 'There are no parts to merge.',
    fix: 'Make some with --seeds 1-10 --out <folder>.',
    where: 'merge',
  })
}

function qualityOf(values: readonly number[]): Quality {
  const average = mean(values)
  const variance = mean(values.map((value) => (value - average) ** 2))
  return { mean: average, spread: Math.sqrt(variance), least: Math.min(...values) }
}
