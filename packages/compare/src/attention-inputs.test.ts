import { SparseAttentionError } from '@sparse-attention/core'
import { testRuntime } from '@sparse-attention/testing'
import { expect, it } from 'vitest'
import { readAttentionInput } from './attention-input.js'
import { attentionInputOf } from './attention-input-of.js'
import { makeInput } from './bench/input.js'
import { captureAttention, type ObservedAttention } from './capture-attention.js'
import { blobSource } from './safetensors/byte-source.js'
import { encodeSafetensors } from './safetensors/write.js'

const shape = { batch: 2, queryHeads: 4, kvHeads: 2, queryLength: 3, keyLength: 5, headDim: 8 }

it('swaps heads and tokens of made-up tensors', () => {
  const made = makeInput('gaussian', shape, 'f32', 1)
  const { q, k } = attentionInputOf(made)
  const [b, head, token, d] = [1, 1, 2, 5]
  expect(q.elements[((b * 4 + head) * 3 + token) * 8 + d]).toBe(made.q[((b * 3 + token) * 4 + head) * 8 + d])
  expect(k.elements[((b * 2 + head) * 5 + token) * 8 + d]).toBe(made.k[((b * 5 + token) * 2 + head) * 8 + d])
  expect(k.shape).toEqual([2, 2, 5, 8])
})

it('reads q, k and v of a file that was dropped on a page, and refuses one that is no such file', async () => {
  const { q, k, v, ...input } = attentionInputOf(makeInput('gaussian', shape, 'f32', 1))
  const tensor = ({ elements, shape }: typeof q) => ({
    dtype: 'F32' as const,
    shape,
    bytes: new Uint8Array(elements.buffer, elements.byteOffset, elements.byteLength),
  })
  const parts = encodeSafetensors({ q: tensor(q), k: tensor(k), v: tensor(v) }) as Uint8Array<ArrayBuffer>[]
  expect(await readAttentionInput(blobSource(new Blob(parts), 'a.safetensors'))).toEqual({ ...input, q, k, v })

  const cut = new Blob(parts).slice(0, 200)
  const error: unknown = await readAttentionInput(blobSource(cut, 'cut.safetensors')).catch((e: unknown) => e)
  expect(SparseAttentionError.is(error)).toBe(true)
  expect(error).toMatchObject({ code: 'INVALID_FILE', where: 'cut.safetensors' })
})

it('captures the attention of one layer, with a factor of its own in q', async () => {
  const runtime = await testRuntime()
  const made = attentionInputOf(makeInput('gaussian', shape, 'f32', 1))
  const [q, k, v] = (['q', 'k', 'v'] as const).map((name) =>
    runtime.tensor('f32', made[name].shape, made[name].elements),
  )
  const event = (layer: number, scale?: number): ObservedAttention => ({
    node: { layer, queryHeads: 4, kvHeads: 2, causal: true, scale },
    ...{ q: q!, k: k!, v: v! },
  })
  const run = async (observe: (event: ObservedAttention) => Promise<void>): Promise<void> => {
    await observe(event(0))
    await observe(event(1, 2 / Math.sqrt(8)))
  }
  expect(await captureAttention(runtime, 0, run)).toEqual({ ...made, causal: true })
  const doubled = await captureAttention(runtime, 1, run)
  expect(doubled.q.elements).toEqual((made.q.elements as Float32Array).map((x) => 2 * x)) // doubling is exact
  expect(doubled.k).toEqual(made.k)
  await expect(captureAttention(runtime, 2, run)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', where: 'layer' })
  for (const tensor of [q, k, v]) tensor!.dispose()
})
