import { expect, test, vi } from 'vitest'
import { Runtime } from './runtime.js'

/** A runtime on a device that is lost when told so. */
function runtimeToLose(): { runtime: Runtime; lose(message?: string): void } {
  let lose: (info: { reason: string; message: string }) => void = () => {}
  const lost = new Promise((resolve) => {
    lose = resolve
  })
  const device = { features: new Set(), limits: {}, lost } as unknown as GPUDevice
  return {
    runtime: new Runtime(device, { device }),
    lose: (message = 'driver reset.') => lose({ reason: 'unknown', message }),
  }
}

const deviceLost = expect.objectContaining({ code: 'DEVICE_LOST', where: 'device' })

test('work that ends passes through, its errors too', async () => {
  const { runtime } = runtimeToLose()
  expect(await runtime.whileAlive(Promise.resolve(7))).toBe(7)
  const error = new Error('of the work')
  await expect(runtime.whileAlive(Promise.reject(error))).rejects.toBe(error)
})

test('work that never ends is rejected when the device is lost', async () => {
  const { runtime, lose } = runtimeToLose()
  const waiting = [runtime.whileAlive(new Promise(() => {})), runtime.whileAlive(new Promise(() => {}))]
  lose()
  for (const outcome of await Promise.allSettled(waiting))
    expect(outcome).toMatchObject({ status: 'rejected', reason: deviceLost })
  await expect(runtime.whileAlive(new Promise(() => {}))).rejects.toThrow(deviceLost)
  await expect(runtime.whileAlive(Promise.reject(new Error('late')))).rejects.toThrow(deviceLost)
})

// Chromium rejects a pending mapAsync with AbortError, and says a moment later that the device was destroyed.
test('an error that comes just before the news of the loss is the loss', async () => {
  const { runtime, lose } = runtimeToLose()
  const waiting = runtime.whileAlive(Promise.reject(new Error('AbortError')))
  setTimeout(lose, 5)
  await expect(waiting).rejects.toThrow(deviceLost)
})

test('the message of the loss ends in one full stop', async () => {
  const { runtime, lose } = runtimeToLose()
  lose('driver reset.')
  expect((await runtime.lost).message).toContain('(unknown): driver reset. Create')
  const bare = runtimeToLose()
  bare.lose('')
  expect((await bare.runtime.lost).message).toContain('no reason given. Create')
})

test('waiting leaves nothing behind on the promise of the loss, which lives as long as the runtime', async () => {
  const { runtime } = runtimeToLose()
  const then = vi.spyOn(runtime.lost, 'then')
  for (let n = 0; n < 10; n++) await runtime.whileAlive(Promise.resolve())
  expect(then).not.toHaveBeenCalled()
})

test('a runtime says what kernels with subgroup matrices are written for, where its device offers their tier', () => {
  const features = new Set(['shader-f16', 'subgroups', 'chromium-experimental-subgroup-matrix'])
  const device = { features, limits: {}, lost: new Promise(() => {}) } as unknown as GPUDevice
  const shape = { componentType: 'f16', resultComponentType: 'f32', M: 8, N: 8, K: 8 }
  const info = (lanes: number) =>
    ({ subgroupMinSize: lanes, subgroupMaxSize: 32, subgroupMatrixConfigs: [shape] }) as unknown as GPUAdapterInfo
  const matrix = (lanes: number, syntax?: 'argument') =>
    new Runtime(device, { device, adapterInfo: info(lanes) }, syntax).subgroupMatrix
  expect(matrix(32, 'argument')).toEqual({ syntax: 'argument', M: 8, N: 8, K: 8 })
  expect(matrix(32)).toBe(undefined)
  expect(matrix(8, 'argument')).toBe(undefined)
})
