import { expect, test } from 'vitest'
import { allocateBuffer } from './allocate.js'
import { guarded } from './gpu-errors.js'
import type { Runtime } from './runtime.js'

/** A runtime whose GPU answers the scopes with these errors, innermost first. */
function runtime(invalid: string | null, outOfMemory: string | null): Runtime & { depth(): number } {
  let depth = 0
  const answers = [invalid, outOfMemory]
  const device = {
    pushErrorScope: () => depth++,
    popErrorScope: async () => {
      depth--
      const message = answers.shift()
      return message ? { message } : null
    },
  }
  return { device, depth: () => depth, whileAlive: (work: Promise<unknown>) => work } as never
}

test('work that the GPU takes gives its value, and the scopes are closed', async () => {
  const fine = runtime(null, null)
  const { value, check } = guarded(fine, () => 7)
  expect(value).toBe(7)
  expect(fine.depth()).toBe(0)
  await check
})

test('a validation error is INVALID_ARGUMENT with the words of the GPU', async () => {
  const { check } = guarded(runtime('buffer is destroyed', null), () => {})
  await expect(check).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    message: expect.stringContaining('buffer is destroyed'),
  })
})

test('out of memory is OUT_OF_MEMORY, also when it made later calls invalid', async () => {
  for (const invalid of [null, 'buffer is invalid']) {
    const { check } = guarded(runtime(invalid, 'no room'), () => {})
    await expect(check).rejects.toMatchObject({ code: 'OUT_OF_MEMORY', message: expect.stringContaining('no room') })
  }
})

test('work that throws passes its error on, and the scopes are closed', () => {
  const fine = runtime('whatever', null)
  const error = new Error('from the work')
  expect(() =>
    guarded(fine, () => {
      throw error
    }),
  ).toThrow(error)
  expect(fine.depth()).toBe(0)
})

test('of a lost device both scopes may reject: one error, and nothing unhandled', async () => {
  const unhandled: unknown[] = []
  const note = (reason: unknown) => unhandled.push(reason)
  process.on('unhandledRejection', note)
  try {
    const lost = runtime(null, null)
    lost.device.popErrorScope = () => Promise.reject(new Error('no scope is left'))
    const { check } = guarded(lost, () => {})
    await expect(check).rejects.toThrow('no scope is left')
    await new Promise((resolve) => setTimeout(resolve, 0))
    expect(unhandled).toEqual([])
  } finally {
    process.off('unhandledRejection', note)
  }
})

test('what the GPU refuses because a buffer turned out to be missing meanwhile is OUT_OF_MEMORY', async () => {
  const short = runtime('buffer is invalid', null)
  const { device } = short
  Object.assign(device, { createBuffer: () => ({}) })
  const { popErrorScope } = device
  const { check } = guarded(short, () => {
    device.popErrorScope = async () => ({ message: 'no room' }) as GPUError
    allocateBuffer(device, { size: 16, usage: 0x80 })
    device.popErrorScope = popErrorScope
  })
  await expect(check).rejects.toMatchObject({ code: 'OUT_OF_MEMORY' })
})
