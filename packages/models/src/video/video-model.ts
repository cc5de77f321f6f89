import type { VideoModelConfig } from './config.js'
import { type VideoGrid, videoTokens } from './video.js'

/**
 * A video model as loaded, nothing of it running yet.
 *
 * The graph takes `latents` f32 [batch, tokens, 24], `timestep` f32 [batch] from 1 (noise) to 0, `code` i64 [batch, 3],
 * `rope_cos` and `rope_sin` f32 [tokens, 32]; it gives `velocity` f32 [batch, tokens, 24].
 */
export interface VideoModel {
  /** The ONNX file. */
  readonly model: Uint8Array<ArrayBuffer>
  readonly config: VideoModelConfig
}

/** Tables that turn queries and keys by where their token lies. */
export interface RotaryTables {
  /** f32 [tokens, angles], angles of time, height and width; sin likewise */
  readonly cos: Float32Array<ArrayBuffer>
  readonly sin: Float32Array<ArrayBuffer>
  readonly angles: number
}

/** Rotary tables of a grid: what the model's inputs `rope_cos` and `rope_sin` take. */
export function rotaryTables({ rope }: Pick<VideoModelConfig, 'rope'>, grid: VideoGrid): RotaryTables {
  const axes = [rope.time, rope.height, rope.width]
  const angles = axes.reduce((sum, frequencies) => sum + frequencies.length, 0)
  const table = (f: (angle: number) => number) => {
    // Of each place on an axis; a token has those of its three places.
    const [times, heights, widths] = axes.map((frequencies, axis) => {
      const count = grid[axis]!
      return Array.from({ length: count }, (_, i) =>
        frequencies.map((frequency, j) => f(frequency * (j < frequencies.length / 2 ? i : (i + 0.5) / count))),
      )
    }) as [number[][], number[][], number[][]]
    const values = new Float32Array(videoTokens(grid) * angles)
    let at = 0
    for (const time of times) {
      for (const height of heights) {
        for (const width of widths) {
          for (const part of [time, height, width]) {
            values.set(part, at)
            at += part.length
          }
        }
      }
    }
    return values
  }
  return { cos: table(Math.cos), sin: table(Math.sin), angles }
}

/** The shift of the sampling schedule: larger grids spend more steps near noise. */
export function samplingShift({ sampling }: Pick<VideoModelConfig, 'sampling'>, grid: VideoGrid): number {
  return sampling.shiftBase * (videoTokens(grid) / 256) ** sampling.shiftPower
}
