import { describe, expect, test } from 'vitest'
import { PageAllocator } from './page-allocator.js'

describe('page allocator', () => {
  test('gives the lowest pages first, and a page that was freed again', () => {
    const pages = new PageAllocator(3)
    expect([pages.take(), pages.take()]).toEqual([0, 1])
    pages.release(0)
    expect([pages.free, pages.take(), pages.take()]).toEqual([2, 0, 2])
    expect(() => pages.take()).toThrow(expect.objectContaining({ code: 'LIMIT_EXCEEDED' }))
  })

  test('a shared page is free when its last owner has released it, and not a second time', () => {
    const pages = new PageAllocator(1)
    const page = pages.take()
    pages.share(page)
    expect(pages.owners(page)).toBe(2)
    pages.release(page)
    expect([pages.owners(page), pages.free]).toEqual([1, 0])
    pages.release(page)
    expect(pages.free).toBe(1)
    expect(() => pages.release(page)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT', where: 'page' }))
    expect(() => pages.share(page)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
    expect(() => pages.release(7)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
  })
})
