import { describe, expect, test } from 'vitest'
import { workgroupRanges } from './grid.js'

/** Every workgroup number that the dispatches of these ranges compute, without those that end at once. */
function numbers(ranges: ReturnType<typeof workgroupRanges>): number[] {
  return ranges.flatMap(({ uniforms: { first_workgroup: first, end_workgroup: end }, workgroups: [x, y] }) => {
    const all = Array.from({ length: x * y }, (_, i) => first + Math.floor(i / x) * 65535 + (i % x))
    return all.filter((number) => number < end)
  })
}

describe('ranges of workgroups', () => {
  test.each([
    [1, 1, 100],
    [10, 7, 20],
    [65535, 1, 1e9],
    [65536, 1, 1e9],
    [200_000, 3, 210_000],
    [5, 1000, 1], // one is more than allowed, and cannot be cut
  ])('%i of %i operations, at most %i a dispatch: each workgroup once', (total, each, most) => {
    const ranges = workgroupRanges(total, each, most)
    expect(numbers(ranges)).toEqual(Array.from({ length: total }, (_, i) => i))
    for (const { count, workgroups } of ranges) {
      expect(count * each <= most || count === 1).toBe(true)
      expect(Math.max(...workgroups)).toBeLessThanOrEqual(65535)
    }
  })

  test('what fits one dispatch is one', () => {
    expect(workgroupRanges(1000, 5, 5000)).toHaveLength(1)
    expect(workgroupRanges(1001, 5, 5000)).toHaveLength(2)
  })
})
