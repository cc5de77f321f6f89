import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { attentionInputOf, encodeSafetensors, makeInput } from '@sparse-attention/compare'
import { expect, it } from 'vitest'
import { reproduce } from './reproduce.js'
import { runCode } from './run-code.js'

const shape = { batch: 1, queryHeads: 2, kvHeads: 1, queryLength: 16, keyLength: 16, headDim: 8 }
const methods = [{ id: 'dense', options: {} }]

it('the code of a file reads it and measures what is in it', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'sparse-attention-file-'))
  try {
    const { q, k, v } = attentionInputOf(makeInput('gaussian', shape, 'f32', 1))
    const tensor = ({ elements, shape }: typeof q) => ({
      dtype: 'F32' as const,
      shape,
      bytes: new Uint8Array(elements.buffer, elements.byteOffset, elements.byteLength),
    })
    const path = join(folder, `it's "q".safetensors`)
    await writeFile(path, Buffer.concat(encodeSafetensors({ q: tensor(q), k: tensor(k), v: tensor(v) })))
    const file = { name: path } as File
    const input = { from: 'file', file, causal: true, grid: undefined } as const
    const rows = await runCode(reproduce({ input, methods, runs: 1 }))
    expect(rows).toMatchObject([
      { method: 'dense', density: 1, recall: 1, relativeError: 0 },
      { method: 'dense', density: 1, recall: 1, relativeError: 0 },
    ])
  } finally {
    await rm(folder, { recursive: true })
  }
})

it('the code says where tokens lie, and writes options as they are', () => {
  const made = { from: 'made-up', kind: 'patches', seed: 2, dtype: 'f32', causal: false } as const
  const input = { ...made, grid: [4, 4], ...shape }
  const table = [
    [0.5, 1],
    [0.25, 0.75],
  ]
  const code = reproduce({ input, methods: [{ id: 'xattention', options: { threshold: table, stride: 8 } }], runs: 3 })
  expect(code).toContain("makeInput('patches', shape, 'f32', 2, [4,4])")
  expect(code).toContain('grid: [4,4]')
  expect(code).toContain("findMethod('xattention')({ threshold: [[0.5,1],[0.25,0.75]], stride: 8 })")
})
