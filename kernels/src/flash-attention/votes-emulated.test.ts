import type { Runtime } from '@sparse-attention/core'
import { afterAll, beforeAll, describe, test } from 'vitest'
import { emulatedMatrixRuntime } from '../shared/emulated-matrix.js'
import { checkVotes } from './votes-checks.js'

describe('votes on emulated matrices', () => {
  let runtime: Runtime
  beforeAll(async () => {
    runtime = await emulatedMatrixRuntime({ syntax: 'template', M: 16, N: 16, K: 16 })
  })
  afterAll(() => runtime.dispose())

  // Pieces have at least 1024 keys.
  test('pieces of rows vote as float64 does, each with a maximum of its own, and a plan of what they need again', () =>
    checkVotes(runtime, { dtype: 'f16', headDim: 16, longestPiece: 16 }, -5))

  test('where a device has too few bindings for pieces, whole rows vote', async () => {
    const { device } = runtime
    const limits = new Proxy(device.limits, {
      get: (all, name) => (name === 'maxStorageBuffersPerShaderStage' ? 8 : Reflect.get(all, name)),
    })
    Object.defineProperty(device, 'limits', { value: limits, configurable: true })
    try {
      await checkVotes(runtime, { dtype: 'f16', headDim: 16 }, -5)
    } finally {
      Reflect.deleteProperty(device, 'limits')
    }
  })
})
