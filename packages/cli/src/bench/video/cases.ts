import { type ConfiguredMethod, SparseAttentionError } from '@sparse-attention/core'
import { dense } from '@sparse-attention/kernels'
import { videoMethods } from '../../demo/video/methods.js'
import { parseMethodCase } from '../method-case.js'

/** A method with its options, with or without a step cache. */
export interface FrontierCase {
  readonly method: ConfiguredMethod
  readonly stepCache?: number
}

/**
 * Reads a method with options, as `parseMethodCase`, and behind it `+step-cache=threshold`.
 *
 * @throws INVALID_ARGUMENT for a method that does not exist or cannot run in a video model, INVALID_OPTION
 */
export async function parseCase(text: string, tokens: number): Promise<FrontierCase> {
  const [whole, threshold] = text.split(cacheMark) as [string, string?]
  const known = [dense.definition.id, ...videoMethods()]
  const method = await parseMethodCase(whole, tokens, { known, refusal: 'cannot run in a video model' })
  if (threshold === undefined) return { method }
  const value = Number(threshold)
  if (threshold.trim() !== '' && value >= 0) return { method, stepCache: value }
  throw new SparseAttentionError('INVALID_OPTION', {
    message: `The threshold of the step cache is '${threshold}'.`,
    fix: 'Use a number from 0, as in dense+step-cache=0.1.',
    where: 'case',
  })
}

const cacheMark = '+step-cache='

/** Methods for diffusion at several densities, alone and with a step cache. Denoising starts dense where a method's paper has that. */
export function defaultCases(): readonly string[] {
  const lite = (threshold: number) => `lite-attention:threshold=${threshold}`
  const first = (density: number) => `sparse-videogen:density=${density},denseSteps=2`
  const second = (topP: number) => `sparse-videogen-2:topP=${topP},denseSteps=2`
  return [
    ...[-4, -2, -1, -0.5].map(lite),
    ...[0.7, 0.5, 0.3].map(first),
    ...[0.9, 0.7, 0.5].map(second),
    ...[`dense${cacheMark}0.55`, `dense${cacheMark}1`, `${lite(-2)}${cacheMark}0.55`, `${second(0.9)}${cacheMark}0.55`],
  ]
}
