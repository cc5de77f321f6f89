import type { Reference } from '@sparse-attention/testing'
import type { SinkWindowOptions } from './method.js'

/** The first tokens and the last ones, in plain loops (arXiv 2309.17453, §3.2). */
export const sinkWindowReference: Reference<SinkWindowOptions> = (
  { batch, queryHeads, keyLength },
  { sink, localWindow },
) => {
  const kept = Uint8Array.from({ length: batch * queryHeads * keyLength }, (_, at) => {
    const token = at % keyLength
    return Number(token < sink || token >= keyLength - localWindow)
  })
  return { blockQ: 64, blockK: 1, kept }
}
