import { readFile } from 'node:fs/promises'
import { createServer, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import type { LoadProgress } from './download.js'
import { loadHeldOutBook, loadLanguageModel } from './load.js'

const folder = new URL('../../', import.meta.url)
let server: Server | undefined
afterEach(() => {
  server?.closeAllConnections()
  server?.close()
})

/** Serves this package's folder; `special` may answer instead and then returns true. */
async function serve(special: (...args: Parameters<RequestListener>) => boolean = () => false): Promise<string> {
  server = createServer(async (request, response) => {
    if (special(request, response) === true) return
    try {
      const body = await readFile(new URL(`.${request.url}`, folder))
      response.setHeader('content-length', body.length).end(body)
    } catch {
      response.writeHead(404).end()
    }
  })
  await new Promise<void>((resolve) => server!.listen(0, '127.0.0.1', resolve))
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
}

const refused = (fields: object): unknown => expect.objectContaining({ name: 'SparseAttentionError', ...fields })

describe('loadLanguageModel over HTTP', () => {
  it.each(['checkpoints/bookworm-9m', 'checkpoints/bookworm-9m/'])('loads %s and counts its bytes', async (path) => {
    const seen: LoadProgress[] = []
    const loaded = await loadLanguageModel({ from: (await serve()) + path, onProgress: (p) => seen.push(p) })
    const file = await readFile(new URL('checkpoints/bookworm-9m/model.onnx', folder))
    expect(Buffer.compare(loaded.model, file)).toBe(0)
    expect(loaded.config.layers).toBe(8)
    expect(loaded.tokenizer.decode(loaded.tokenizer.encode('a good fortune'))).toBe('a good fortune')
    const last = seen.at(-1)!
    expect(last.loadedBytes).toBeGreaterThan(file.length)
    expect(last.totalBytes).toBe(last.loadedBytes)
    expect(seen.every((p, i) => p.loadedBytes > (seen[i - 1]?.loadedBytes ?? 0))).toBe(true)
  })

  it('names the file that is missing', async () => {
    await expect(loadLanguageModel({ from: await serve() })).rejects.toThrow(
      refused({ code: 'INVALID_FILE', message: expect.stringMatching(/(model.onnx|json): the server answered 404/) }),
    )
  })

  it('refuses a file that stops early', async () => {
    const from = await serve((request, response) => {
      if (!request.url!.endsWith('model.onnx')) return false
      response.writeHead(200, { 'content-length': 9_000_000 })
      response.write(new Uint8Array(1000), () => response.destroy())
      return true
    })
    await expect(loadLanguageModel({ from: `${from}checkpoints/bookworm-9m` })).rejects.toThrow(
      refused({ code: 'INVALID_FILE', where: expect.stringContaining('model.onnx') }),
    )
  })

  it('refuses the page that a development server sends for anything', async () => {
    const from = await serve((_, response) => {
      response.end('<!doctype html>')
      return true
    })
    await expect(loadLanguageModel({ from })).rejects.toThrow(refused({ code: 'INVALID_FILE', where: 'model.onnx' }))
  })

  it('says so when there is no server', async () => {
    await expect(loadLanguageModel({ from: 'http://127.0.0.1:1/' })).rejects.toThrow(refused({ code: 'INVALID_FILE' }))
  })

  it.each([undefined, 'no/such'])('needs an address where none is known (from: %s)', async (from) => {
    await expect(loadLanguageModel(from === undefined ? {} : { from })).rejects.toThrow(
      refused({ code: 'INVALID_ARGUMENT', where: 'from', fix: expect.stringContaining('models/node') }),
    )
  })

  it('stops in the middle of a file with the reason of the signal', async () => {
    let closed = false
    const from = await serve((request, response) => {
      if (!request.url!.endsWith('model.onnx')) return false
      response.on('close', () => (closed = true))
      response.writeHead(200, { 'content-length': 9_000_000 }).write(new Uint8Array(1000))
      return true
    })
    const controller = new AbortController()
    const reason = new Error('the page was left')
    const loading = loadLanguageModel({
      from: `${from}checkpoints/bookworm-9m`,
      signal: controller.signal,
      onProgress: () => controller.abort(reason),
    })
    await expect(loading).rejects.toBe(reason)
    await expect.poll(() => closed).toBe(true)
    await expect(loadLanguageModel({ from, signal: controller.signal })).rejects.toBe(reason)
  })

  it('uses the fetch it is given', async () => {
    const asked: string[] = []
    const loading = loadHeldOutBook({
      from: 'https://books.example/data',
      fetch: async (url) => {
        asked.push(String(url))
        return new Response('It is a truth')
      },
    })
    expect(await loading).toBe('It is a truth')
    expect(asked).toEqual(['https://books.example/data/pride_and_prejudice.txt'])
  })
})
