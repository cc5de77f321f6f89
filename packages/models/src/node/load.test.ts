import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { describe, expect, it, onTestFinished } from 'vitest'
import { loadHeldOutBook, loadLanguageModel, loadVideoModel, packageFolder } from './load.js'

const shipped = join(packageFolder(), 'checkpoints', 'bookworm-9m')

async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'sparse-attention-models-'))
  onTestFinished(() => rm(folder, { recursive: true }))
  return folder
}

describe('loadLanguageModel in Node', () => {
  it('ships within its budget of 9.9 MB', async () => {
    const files = await readdir(shipped)
    const sizes = await Promise.all(files.map(async (file) => (await stat(join(shipped, file))).size))
    expect(files).toEqual(expect.arrayContaining(['model.onnx', 'tokenizer.json', 'config.json']))
    expect(sizes.reduce((a, b) => a + b)).toBeLessThanOrEqual(9.9e6)
  })

  it('loads what the package ships, a path and a file URL', async () => {
    const loaded = [
      await loadLanguageModel(),
      await loadLanguageModel({ from: shipped }),
      await loadLanguageModel({ from: pathToFileURL(shipped) }),
    ]
    const { size } = await stat(join(shipped, 'model.onnx'))
    for (const { model, tokenizer, config } of loaded) {
      expect(model.length).toBe(size)
      expect(tokenizer.vocabularySize).toBe(config.vocabularySize)
    }
  })

  it('reports its progress up to the end', async () => {
    const seen: number[] = []
    let total: number | undefined
    await loadLanguageModel({
      onProgress: ({ loadedBytes, totalBytes }) => {
        seen.push(loadedBytes)
        total = totalBytes
      },
    })
    expect(seen.length).toBe(3)
    expect(total).toBe(seen.at(-1))
  })

  it('loads the book that no training saw', async () => {
    const book = await loadHeldOutBook()
    expect(book).toContain('It is a truth universally acknowledged')
    expect(book.length).toBeGreaterThan(700_000)
  })

  it('names the file that is missing', async () => {
    const folder = await temporaryFolder()
    await expect(loadLanguageModel({ from: folder })).rejects.toMatchObject({
      code: 'INVALID_FILE',
      where: join(folder, 'model.onnx'),
    })
  })

  it('refuses files that are not a checkpoint', async () => {
    const folder = await temporaryFolder()
    for (const file of ['model.onnx', 'tokenizer.json', 'config.json']) await writeFile(join(folder, file), '')
    await expect(loadLanguageModel({ from: folder })).rejects.toMatchObject({
      code: 'INVALID_FILE',
      where: 'model.onnx',
    })
  })

  it('rejects with the reason of an aborted signal', async () => {
    const reason = new Error('enough')
    await expect(loadLanguageModel({ signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
    const controller = new AbortController()
    const loading = loadLanguageModel({ signal: controller.signal, onProgress: () => controller.abort(reason) })
    await expect(loading).rejects.toBe(reason)
  })
})

describe('loadVideoModel in Node', () => {
  const folder = join(packageFolder(), 'checkpoints', 'drifters-7m')

  it('loads what the package ships, within its budget of 9.9 MB', async () => {
    const files = await readdir(folder)
    const sizes = await Promise.all(files.map(async (file) => (await stat(join(folder, file))).size))
    expect(sizes.reduce((a, b) => a + b)).toBeLessThanOrEqual(9.9e6)
    const { model, config } = await loadVideoModel()
    expect(model.length).toBe((await stat(join(folder, 'model.onnx'))).size)
    expect(config).toMatchObject({ layers: 8, heads: 4, headDim: 64, defaultGrid: [8, 32, 32] })
  })

  it('refuses a graph without its config.json', async () => {
    const empty = await temporaryFolder()
    await writeFile(join(empty, 'model.onnx'), new Uint8Array([8, 8]))
    const where = join(empty, 'config.json')
    await expect(loadVideoModel({ from: empty })).rejects.toMatchObject({ code: 'INVALID_FILE', where })
    await writeFile(where, '{}')
    await expect(loadVideoModel({ from: empty })).rejects.toMatchObject({ code: 'INVALID_FILE', where: 'config.json' })
  })
})
