import { expect, it } from 'vitest'
import { readScene } from './scene-text.js'

it('reads words, and the numbers that the model takes', () => {
  expect(readScene('red circle down left')).toEqual([0, 0, 3])
  expect(readScene(' 3, 5 7 ')).toEqual([3, 5, 7])
})

it.each(['4 0 0', '0 6 0', '0 0 8', '1 2', 'blue'])("refuses '%s'", (text) => {
  expect(() => readScene(text)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT', where: 'scene' }))
})
