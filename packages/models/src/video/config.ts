import { SparseAttentionError } from '@sparse-attention/core'
import { brief, isJsonObject, parseJsonObject } from '../json.js'
import type { VideoGrid } from './video.js'

/** What a video model's `config.json` says, as far as one needs to know to run it. */
export interface VideoModelConfig {
  readonly layers: number
  /** Of queries, and as many of keys and values. */
  readonly heads: number
  readonly headDim: number
  /** Frequencies of the rotary angles: the first half counts tokens, the second shares of the axis. */
  readonly rope: {
    readonly time: readonly number[]
    readonly height: readonly number[]
    readonly width: readonly number[]
  }
  /** The grid that it is meant for. */
  readonly defaultGrid: VideoGrid
  readonly sampling: {
    readonly steps: number
    /** g of classifier-free guidance. */
    readonly guidance: number
    /** The schedule's shift is base · (tokens / 256)^power. */
    readonly shiftBase: number
    readonly shiftPower: number
  }
}

/**
 * Reads the text of a video model's `config.json`.
 *
 * @throws SparseAttentionError `INVALID_FILE` where it is no JSON object, or a number is missing or absurd
 */
export function parseVideoModelConfig(text: string): VideoModelConfig {
  const file = 'config.json'
  const json = parseJsonObject(text, file)
  const refuse = (key: string, value: unknown, allowed: string): never => {
    throw new SparseAttentionError('INVALID_FILE', {
      where: file,
      message: `${file}: ${key} is ${brief(value)}.`,
      fix: `It must be ${allowed}; load the file that belongs to the checkpoint.`,
    })
  }
  const part = (key: string) => {
    const value = json[key]
    return isJsonObject(value) ? value : refuse(key, value, 'an object')
  }
  const size = (of: Readonly<Record<string, unknown>>, key: string): number => {
    const value = of[key]
    const fits = typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= 4096
    return fits ? value : refuse(key, value, 'an integer from 1 to 4096')
  }
  const number = (of: Readonly<Record<string, unknown>>, key: string, low: number, high: number): number => {
    const value = of[key]
    const fits = typeof value === 'number' && value >= low && value <= high
    return fits ? value : refuse(`sampling.${key}`, value, `a number from ${low} to ${high}`)
  }
  const [rope, sampling] = [part('rope'), part('sampling')]
  const frequencies = (axis: string): readonly number[] => {
    const list = rope[axis]
    const fits = Array.isArray(list) && list.length % 2 === 0 && list.every(Number.isFinite)
    return fits ? (list as readonly number[]) : refuse(`rope.${axis}`, list, 'an even number of frequencies')
  }
  const headDim = size(json, 'head_dim')
  const axes = { time: frequencies('time'), height: frequencies('height'), width: frequencies('width') }
  const angles = axes.time.length + axes.height.length + axes.width.length
  // An angle turns two numbers of a head; tables of another width would be refused only in the middle of the network.
  if (2 * angles !== headDim) refuse('rope', rope, `half of head_dim ${headDim} in frequencies, not ${angles}`)
  const grid = json.default_grid
  const isGrid =
    Array.isArray(grid) && grid.length === 3 && grid.every((n) => Number.isInteger(n) && n >= 1 && n <= 512)
  return {
    defaultGrid: isGrid ? (grid as unknown as VideoGrid) : refuse('default_grid', grid, 'three sizes from 1 to 512'),
    layers: size(json, 'num_hidden_layers'),
    heads: size(json, 'num_attention_heads'),
    headDim,
    rope: axes,
    sampling: {
      steps: size(sampling, 'steps'),
      guidance: number(sampling, 'guidance', 0, 100),
      // A schedule with a shift of 0 never leaves the noise.
      shiftBase: number(sampling, 'shift_base', 0.01, 100),
      shiftPower: number(sampling, 'shift_power', -4, 4),
    },
  }
}
