import type { Mutation } from '../mutation.js'
import { attention } from './attention.js'
import { carriedState } from './carried-state.js'
import { decoding } from './decode.js'
import { estimates } from './estimates.js'
import { generation } from './generation.js'
import { matrixKernel } from './matrix.js'
import { methods } from './methods.js'
import { permuted } from './permuted.js'
import { pictures } from './pictures.js'
import { pieces } from './pieces.js'
import { plans } from './plans.js'
import { runtime } from './runtime.js'
import { selections } from './selections.js'
import { tuning } from './tuning.js'
import { videos } from './video.js'
import { vision } from './vision.js'

/** Every mutation, by what it breaks. */
export const mutations: Readonly<Record<string, readonly Mutation[]>> = {
  attention,
  'matrix kernel': matrixKernel,
  pieces,
  estimates,
  selections,
  plans,
  methods,
  decoding,
  generation,
  runtime,
  tuning,
  'carried state': carriedState,
  'permuted tokens': permuted,
  vision,
  pictures,
  videos,
}

export const allMutations: readonly Mutation[] = Object.values(mutations).flat()

export function findMutation(id: string): Mutation {
  const mutation = allMutations.find((one) => one.id === id)
  if (!mutation) throw new Error(`There is no mutation '${id}'.`)
  return mutation
}
