import { createRuntime, halfToFloat, type Runtime } from '@sparse-attention/core'
import { createRandom } from '@sparse-attention/testing'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { testMemory } from '../shared/test-memory.js'
import { convertElements } from './convert-elements.js'
import { convertElementsReference } from './reference.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

test.each([8, 40, 2056])('%i floats as halves, and back', async (count) => {
  using memory = testMemory(runtime)
  const random = createRandom(count)
  const values = Float32Array.from(
    { length: count },
    () => (2 * random.uniform() - 1) * 2 ** (20 * random.uniform() - 4),
  )
  values.set([0, 1e6, -1e6, 65504, 2 ** -14])
  const floats = memory.words(values)
  const halves = memory.words(new Uint32Array(count / 2).fill(0x7e017e01))
  await memory.submit((await convertElements(runtime, 'f16'))(count, floats, halves))
  const found = new Uint16Array((await memory.read(halves)).buffer)
  const expected = convertElementsReference('f16', values)
  for (let i = 0; i < count; i++) {
    const [a, b] = [halfToFloat(found[i]!), halfToFloat(expected[i]!)]
    // WGSL leaves open which of the two halves beside a number it becomes: they are 2⁻¹⁰ apart.
    expect(Math.abs(a - b)).toBeLessThanOrEqual(Math.abs(b) * 2 ** -10)
  }
  expect([...found.subarray(0, 5)]).toEqual(expected.slice(0, 5))

  const back = memory.words(new Uint32Array(count).fill(0x7fc0dead))
  await memory.submit((await convertElements(runtime, 'f32'))(count, halves, back))
  expect([...new Float32Array((await memory.read(back)).buffer)]).toEqual(convertElementsReference('f32', found))
})

test('refuses memory that is too small', async () => {
  using memory = testMemory(runtime)
  const record = await convertElements(runtime, 'f16')
  expect(() => record(9, memory.words(16), memory.words(4))).toThrow(
    expect.objectContaining({ code: 'BUFFER_TOO_SMALL', where: 'result' }),
  )
  expect(() => record(0, memory.words(16), memory.words(8))).toThrow(expect.objectContaining({ where: 'count' }))
})
