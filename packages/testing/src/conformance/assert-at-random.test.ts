import fc from 'fast-check'
import { expect, test } from 'vitest'
import { assertAtRandom } from './assert-at-random.js'

const pause = (ms: number) => new Promise<void>((resolve) => void setTimeout(resolve, ms))

test('ends when the check that runs at the end of the time has ended', async () => {
  let running = 0
  let checks = 0
  const check = async () => {
    running++
    checks++
    await pause(40)
    running--
  }
  await assertAtRandom(fc.nat(), check, { seed: 1, seconds: 0.3 }, 1)
  expect(checks).toBeGreaterThan(0)
  expect(running).toBe(0)
})

test('tells of a check that fails after the time', async () => {
  let checks = 0
  const check = async () => {
    if (++checks === 1) return
    await pause(600)
    throw new Error('late')
  }
  await expect(assertAtRandom(fc.nat(), check, { seed: 1, seconds: 0.3 }, 1)).rejects.toThrow('late')
  expect(checks).toBe(2)
})

test('without a time runs a few, and names the seed of the one that fails', async () => {
  let checks = 0
  const check = async (n: number) => {
    if (++checks === 2) throw new Error(`fails at ${n}`)
  }
  await expect(assertAtRandom(fc.nat(), check, { seed: 7 }, 3)).rejects.toThrow(/seed: 7/)
  expect(checks).toBe(2)
})
