import { type AttentionContext, SparseAttentionError } from '@sparse-attention/core'
import type { Tensor } from 'onnxruntime-web'
import type { ModelState } from '../model-state.js'
import type { AttentionEvent, AttentionMethod } from '../replaced-attention.js'

/** What `AttentionModel.sample` makes, and of what. */
export interface SampleOptions {
  /** Of the latents, the batch first. */
  readonly shape: readonly number[]
  /** Feeds beside latents and time: what is asked for. They stay the caller's. */
  readonly condition: Readonly<Record<string, Tensor>>
  /** The same for the pass that is asked for nothing. Needed with a guidance other than 1. */
  readonly nullCondition?: Readonly<Record<string, Tensor>>
  /**
   * g of classifier-free guidance: the velocity is v_null + g · (v_condition − v_null), from two passes a step. Default 1: one
   * pass, of the condition.
   */
  readonly guidance?: number
  /** Default 30. */
  readonly steps?: number
  /** a of the schedule t ↦ a·t / (1 + (a − 1)·t). Default 1: even. */
  readonly shift?: number
  /** Chooses the noise: the same seed gives the same on every platform. An integer; its lower 32 bits count. Default 0. */
  readonly seed?: number
  /** The noise to start from, in place of the seed's. */
  readonly noise?: Float32Array
  /** Names of the model's inputs. Default: `x`, f32 of `shape`, and `t`, f32 [batch], from 1 (noise) to 0. */
  readonly inputs?: { readonly latents: string; readonly time: string }
  /** Name of the output that is the velocity, f32 of `shape`. Default: the first. */
  readonly output?: string
  /** How the tokens lie: [frames, height, width] or [height, width], for methods that want to know. */
  readonly grid?: readonly number[]
  /** In place of what was chosen when the model was loaded. Give the same object again: each is compiled once. */
  readonly attention?: AttentionMethod
  /** false: run as without `captureSampling`, for a model that is loaded with it. Default true. */
  readonly capture?: boolean
  /** What methods remember between steps. It is reset first. Default: one for this call, freed when it ends. */
  readonly state?: ModelState
  /** Stops before the next piece or submit; the call rejects with the signal's reason and frees what it made. */
  readonly signal?: AbortSignal
  /**
   * Called in place of each evaluation of the model, which it may run, or answer itself: with that of an earlier step, as a step
   * cache does. Attentions see only what is run. Both branches of a step are asked for at once, the conditional one first.
   */
  readonly onEvaluation?: (evaluation: Evaluation, evaluate: () => Promise<Float32Array>) => Promise<Float32Array>
  /** After each step, and awaited. */
  readonly onStep?: (step: SampleStep) => void | Promise<void>
  /** After each pass through the model. */
  readonly onPass?: (pass: SamplePass) => void
  /** As for `run`; `event.context` tells step and branch. Its passes are run as without `captureSampling`. */
  readonly onAttention?: (event: AttentionEvent) => void | Promise<void>
}

/** Where and in what a model is evaluated. */
export type Evaluation = Required<Pick<AttentionContext, 'step' | 'steps' | 'branch'>> & {
  /** f32 of `shape`. The sampler's own: not to be written, nor kept. */
  readonly latents: Float32Array
  /** From 1 (noise) to 0. */
  readonly time: number
}

/** One pass through a model, and where its time went. */
export interface SamplePass extends Required<Pick<AttentionContext, 'step' | 'branch'>> {
  /** On recorded sessions. */
  readonly captured: boolean
  /** From the call until everything was handed to the GPU, or computed, in milliseconds. */
  readonly hostMs: number
  /**
   * From then until the velocity was on the CPU: what the GPU still had to do, and the read-back. Of a recorded pass the other branch is
   * handed to the GPU meanwhile.
   */
  readonly waitMs: number
}

export interface SampleStep {
  /** From 0. */
  readonly step: number
  readonly steps: number
  /** Of the latents, after the step: 0 after the last. */
  readonly time: number
  /** f32 of `shape`. A copy of its own. */
  readonly latents: Float32Array
}

/** What sampling goes by, checked. */
export type CheckedSampling = Required<
  Pick<SampleOptions, 'shape' | 'condition' | 'guidance' | 'steps' | 'shift' | 'seed' | 'capture'>
> & {
  readonly inputs: { readonly latents: string; readonly time: string }
  /** Elements of the latents. */
  readonly count: number
} & Pick<
    SampleOptions,
    'nullCondition' | 'noise' | 'grid' | 'attention' | 'signal' | 'onEvaluation' | 'onStep' | 'onPass' | 'onAttention'
  >

/** @throws INVALID_OPTION, INVALID_SHAPE naming the option */
export function checkSampling(options: SampleOptions): CheckedSampling {
  const { shape, guidance = 1, steps = 30, shift = 1, seed = 0, capture = true, noise, nullCondition } = options
  const isSize = (size: unknown) => Number.isSafeInteger(size) && (size as number) >= 1
  const count = Array.isArray(shape) && shape.every(isSize) ? shape.reduce((a, b) => a * b, 1) : 0
  if (count < 1 || count > 2 ** 30 || shape.length === 0) {
    throw refused('shape', `shape is ${JSON.stringify(shape)}.`, 'Use sizes of at least 1, the batch first.')
  }
  if (!(isSize(steps) && steps <= 10_000)) refuse('steps', steps, 'an integer from 1 to 10000')
  if (!(shift > 0 && Number.isFinite(shift))) refuse('shift', shift, 'a number above 0')
  if (!Number.isFinite(guidance)) refuse('guidance', guidance, 'a number; 1 leaves it out')
  if (!Number.isSafeInteger(seed)) refuse('seed', seed, 'an integer')
  if (guidance !== 1 && nullCondition === undefined) {
    throw refused(
      'nullCondition',
      `guidance is ${guidance}, but nullCondition is missing.`,
      'Give the feeds of the pass that is asked for nothing, or use guidance 1.',
    )
  }
  if (noise && noise.length !== count) {
    throw new SparseAttentionError('INVALID_SHAPE', {
      message: `noise has ${noise.length} numbers, and latents of the shape [${shape}] ${count}.`,
      fix: `Give ${count}, or a seed.`,
      where: 'noise',
    })
  }
  const { condition, grid, attention, signal, onEvaluation, onStep, onPass, onAttention } = options
  return {
    shape,
    count,
    condition,
    guidance,
    steps,
    shift,
    seed,
    capture,
    inputs: options.inputs ?? { latents: 'x', time: 't' },
    ...(nullCondition && { nullCondition }),
    ...(noise && { noise }),
    ...(grid && { grid }),
    ...(attention && { attention }),
    ...(signal && { signal }),
    ...(onEvaluation && { onEvaluation }),
    ...(onStep && { onStep }),
    ...(onPass && { onPass }),
    ...(onAttention && { onAttention }),
  }
}

function refuse(name: string, value: unknown, allowed: string): never {
  throw refused(name, `${name} is ${String(value)}.`, `Use ${allowed}.`)
}

function refused(where: string, message: string, fix: string): SparseAttentionError {
  return new SparseAttentionError('INVALID_OPTION', { message, fix, where })
}
