import { createRuntime } from '@sparse-attention/core'
import { type AllocationFailure, failAllocation, trackBuffers } from '@sparse-attention/testing'
import { beforeAll, describe, expect, test } from 'vitest'
import { createHarness, type Harness } from '../test/harness.js'
import { tinyLlamaModel } from '../test/tiny-llama.js'
import { works } from '../test/works.js'

/*
 * What goes wrong in the middle of a model's work: a lost device, memory that is not there, a signal that stops it. In a prompt, in a
 * text and in a video; at every submit, every buffer and every look at the signal, one after the other.
 */

let harness: Harness
beforeAll(async () => {
  harness = await createHarness()
})

/** Three places of 1 to `count`: the first, one in the middle, the last. */
const some = (count: number) => [...new Set([1, Math.ceil(count / 2), count])]

/** How often a device is given work, and something that happens when it is the `at`-th time. */
function atSubmit(device: GPUDevice, at: number, act: () => void): Disposable & { readonly submits: number } {
  const { queue } = device
  const { submit } = queue
  let submits = 0
  queue.submit = (commands) => {
    submit.call(queue, commands)
    if (++submits === at) act()
  }
  return {
    get submits() {
      return submits
    },
    [Symbol.dispose]: () => Object.assign(queue, { submit }),
  }
}

describe('the device is lost in the middle', () => {
  const lost = { code: 'DEVICE_LOST', where: 'device' }

  test('of a prompt, a text and a video: each fails as that, frees itself, and works on a new device', async () => {
    const expected = new Map<string, unknown>()
    let submits = 0
    for (const [name, start] of Object.entries(works)) {
      if (name === 'a text from pages') continue // as a text; each device compiles its kernels anew
      const work = await start(harness, harness.runtime)
      using counted = atSubmit(harness.runtime.device, 0, () => {})
      expected.set(name, await work.run())
      submits = counted.submits
      expect(submits, name).toBeGreaterThan(2)
      await work.dispose()

      // Another model, on a device that is gone when half of the work is submitted.
      using runtime = await createRuntime({ software: true })
      const own = await start(harness, runtime)
      expect(await own.run(), `${name} on a new device`).toEqual(expected.get(name))
      using _ = atSubmit(runtime.device, Math.ceil(submits / 2), () => runtime.device.destroy())
      await expect(own.run(), name).rejects.toMatchObject(lost)
      await expect(own.run(), `${name} after it`).rejects.toMatchObject(lost)
      await own.dispose()
    }
  })
})

describe('there is no memory', () => {
  test.each(Object.keys(works) as (keyof typeof works)[])(
    'for some buffer of %s: OUT_OF_MEMORY, nothing is kept, and the next is as ever',
    async (name) => {
      const { runtime } = harness
      const { device, scratch, uniforms } = runtime
      const work = await works[name](harness, runtime)
      const expected = await work.run()
      const drain = () => {
        scratch.trim()
        uniforms.dispose()
      }
      drain()
      await work.run()
      using buffers = trackBuffers(device)
      drain()
      const count = failAllocation(device, 0, 'reported')
      await work.run()
      count.dispose()
      drain()
      const { live } = buffers
      expect(count.asked, name).toBeGreaterThan(2)
      for (const how of ['thrown', 'reported'] satisfies AllocationFailure[]) {
        for (let at = 1; at <= count.asked; at++) {
          const failing = failAllocation(device, at, how)
          const outcome = await work.run().catch((error: unknown) => error)
          failing.dispose()
          const what = `buffer ${at} of ${count.asked}, ${how}`
          expect(outcome, what).toMatchObject({ code: 'OUT_OF_MEMORY' })
          if (how === 'reported' || at === count.asked) expect(await work.run(), `after ${what}`).toEqual(expected)
          drain()
          expect(buffers.live, what).toBeLessThanOrEqual(live)
        }
      }
      await work.dispose()
    },
  )
})

describe('a signal stops', () => {
  /** A signal that is aborted at the `at`-th look at it, and how often it was looked at. */
  function stopAt(at: number): { readonly signal: AbortSignal; readonly looks: () => number } {
    const controller = new AbortController()
    const { signal } = controller
    let looks = 0
    signal.throwIfAborted = () => {
      if (++looks === at) controller.abort(new Error(`stopped at look ${at}`))
      AbortSignal.prototype.throwIfAborted.call(signal)
    }
    return { signal, looks: () => looks }
  }

  test.each(Object.keys(works) as (keyof typeof works)[])(
    '%s wherever it looks: its reason, nothing is kept, and the next is as ever',
    async (name) => {
      const { runtime } = harness
      const work = await works[name](harness, runtime)
      const expected = await work.run()
      await work.run()
      using buffers = trackBuffers(runtime.device)
      const whole = stopAt(0)
      expect(await work.run(whole.signal)).toEqual(expected)
      const { live } = buffers
      expect(whole.looks(), name).toBeGreaterThan(4)
      for (let at = 1; at <= whole.looks(); at++) {
        const { signal, looks } = stopAt(at)
        await expect(work.run(signal), `look ${at}`).rejects.toThrow(`stopped at look ${at}`)
        // The other branch of a video's step is under way: it looks once, and stops too.
        expect(looks() - at).toBeLessThanOrEqual(name === 'a video' ? 1 : 0)
        expect(buffers.live, `look ${at} of ${whole.looks()}`).toBeLessThanOrEqual(live)
      }
      expect(await work.run()).toEqual(expected)
      await work.dispose()
    },
  )
})

test('a load that is stopped leaves nothing, nor does a cache that there is no memory for', async () => {
  const { runtime } = harness
  const controller = new AbortController()
  using buffers = trackBuffers(runtime.device)
  const reason = new Error('enough')
  const onProgress = ({ done }: { done: number }) => done === 2 && controller.abort(reason)
  const options = { cache: true, signal: controller.signal, onProgress: (p: { done: number }) => void onProgress(p) }
  await expect(harness.load(tinyLlamaModel(), options)).rejects.toBe(reason)
  expect(buffers.live).toBe(0)
  for (const at of some(4)) {
    const model = await harness.load(tinyLlamaModel(), { cache: true })
    const failing = failAllocation(runtime.device, at, 'reported')
    await expect(model.createCache({ capacity: 64 })).rejects.toMatchObject({ code: 'OUT_OF_MEMORY' })
    failing.dispose()
    expect(buffers.live).toBe(0)
    await model.dispose()
  }
})
