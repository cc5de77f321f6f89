import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createRuntime, findGpu, loadTuning, saveTuning, tuningFile } from '@sparse-attention/core/node'
import { afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest'
import { tuningEntry } from '../test-support.js'

let folder: string
// From the usual cache folder: those of the tests are gone when the driver is looked for again.
beforeAll(() => findGpu())
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tuning-test-'))
  vi.stubEnv('XDG_CACHE_HOME', folder)
})
afterEach(async () => {
  vi.unstubAllEnvs()
  await rm(folder, { recursive: true, force: true })
})

const onNotice = vi.fn()
beforeEach(() => onNotice.mockReset())

test('what is saved is there again, and what is saved later is added', async () => {
  expect(await loadTuning({ onNotice })).toBeUndefined()
  const [first, second] = [tuningEntry(), { ...tuningEntry(), headDim: 128 }]
  await saveTuning({ version: 1, entries: [first] })
  await saveTuning({ version: 1, entries: [second] })
  expect(await loadTuning({ onNotice })).toEqual({ version: 1, entries: [first, second] })
  expect(await readdir(join(folder, 'sparse-attention'))).toEqual(['tuning.json'])
  expect(onNotice).not.toHaveBeenCalled()
})

test.each([
  ['no JSON', '{"version": 1,'],
  ['no table', '{"version": 1, "entries": [{}]}'],
  ['no text', Uint8Array.of(0xff, 0xfe, 0x00)],
  ['too large', ' '.repeat(2 ** 24 + 1)],
])('a file that is %s is ignored with a notice, and replaced by the next save', async (_, content) => {
  await saveTuning({ version: 1, entries: [] })
  await writeFile(tuningFile()!, content)
  using runtime = await createRuntime({ tuning: 'cached', onNotice })
  expect(runtime.tuning).toBeUndefined()
  expect(onNotice.mock.calls.flat().filter((notice) => notice.includes('tuning.json is ignored'))).toHaveLength(1)
  await saveTuning({ version: 1, entries: [tuningEntry()] })
  expect((await loadTuning())!.entries).toEqual([tuningEntry()])
})

test('a runtime takes the kept table when asked to, knows its Dawn, and refuses what is no table', async () => {
  await saveTuning({ version: 1, entries: [tuningEntry()] })
  using cached = await createRuntime({ tuning: 'cached', onNotice })
  expect(cached.tuning?.entries).toEqual([tuningEntry()])
  expect(cached.identity).toMatchObject({ implementation: expect.stringMatching(/^dawn \d+\.\d+\.\d+$/) })
  using plain = await createRuntime({ onNotice })
  expect(plain.tuning).toBeUndefined()
  await expect(createRuntime({ tuning: {} as never })).rejects.toThrow(
    expect.objectContaining({ code: 'INVALID_FILE' }),
  )
})

test('many writers at once leave one whole file', async () => {
  await Promise.all(
    Array.from({ length: 8 }, (_, i) => saveTuning({ version: 1, entries: [{ ...tuningEntry(), headDim: i + 1 }] })),
  )
  expect(await readdir(join(folder, 'sparse-attention'))).toEqual(['tuning.json'])
  expect(JSON.parse(await readFile(tuningFile()!, 'utf8')).entries.length).toBeGreaterThan(0)
})

test('a folder that cannot be made is INVALID_FILE', async () => {
  await writeFile(join(folder, 'sparse-attention'), '')
  await expect(saveTuning({ version: 1, entries: [] })).rejects.toThrow(
    expect.objectContaining({ code: 'INVALID_FILE', where: tuningFile() }),
  )
})
