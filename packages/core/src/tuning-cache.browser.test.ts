import { createRuntime, loadTuning, saveTuning } from '@sparse-attention/core'
import { afterEach, expect, test, vi } from 'vitest'
import { tuningEntry } from './test-support.js'

const forget = () =>
  new Promise((resolve, reject) => {
    const deletion = indexedDB.deleteDatabase('sparse-attention')
    deletion.onsuccess = resolve
    deletion.onerror = reject
  })
afterEach(forget)

test('a page keeps what is saved, adds to it, and a runtime takes it when asked to', async () => {
  await forget()
  expect(await loadTuning()).toBeUndefined()
  const [first, second] = [tuningEntry(), { ...tuningEntry(), headDim: 128 }]
  await saveTuning({ version: 1, entries: [first] })
  await saveTuning({ version: 1, entries: [second] })
  expect(await loadTuning()).toEqual({ version: 1, entries: [first, second] })
  using runtime = await createRuntime({ tuning: 'cached' })
  expect(runtime.tuning?.entries).toEqual([first, second])
  expect(runtime.identity.implementation).toMatch(/^Chrome \d+$/)
})

test('a record that is no table is ignored with a notice, and replaced by the next save', async () => {
  await saveTuning({ version: 1, entries: [] })
  await new Promise((resolve, reject) => {
    const opening = indexedDB.open('sparse-attention', 1)
    opening.onerror = reject
    opening.onsuccess = () => {
      const transaction = opening.result.transaction('tuning', 'readwrite')
      transaction.objectStore('tuning').put({ version: 1, entries: [new Date()] }, 'table')
      transaction.oncomplete = () => {
        opening.result.close()
        resolve(undefined)
      }
    }
  })
  const onNotice = vi.fn()
  expect(await loadTuning({ onNotice })).toBeUndefined()
  expect(onNotice).toHaveBeenCalledExactlyOnceWith(expect.stringContaining('IndexedDB'))
  await saveTuning({ version: 1, entries: [tuningEntry()] })
  expect((await loadTuning())?.entries).toEqual([tuningEntry()])
})
