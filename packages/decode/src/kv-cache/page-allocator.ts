import { SparseAttentionError } from '@sparse-attention/core'

/** Which pages of a pool are taken, and by how many owners. On the host: no page is read to know it. */
export class PageAllocator {
  readonly #owners: Uint32Array
  /** Free pages, the next to be taken last. */
  readonly #free: number[]

  constructor(readonly pages: number) {
    this.#owners = new Uint32Array(pages)
    // Lowest first: pages of a prompt then follow one another, and are written to a table in one copy.
    this.#free = Array.from({ length: pages }, (_, n) => pages - 1 - n)
  }

  get free(): number {
    return this.#free.length
  }

  /** Owners of a page; 0 when it is free. */
  owners(page: number): number {
    return this.#owners[page] ?? 0
  }

  /** @throws LIMIT_EXCEEDED when none is free */
  take(): number {
    const page = this.#free.pop()
    if (page === undefined) {
      throw new SparseAttentionError('LIMIT_EXCEEDED', {
        message: `All ${this.pages} pages of the pool are taken.`,
        fix: 'Make a pool with more pages, or truncate, reset or dispose of caches.',
        where: 'pages',
      })
    }
    this.#owners[page] = 1
    return page
  }

  /** One owner more. @throws INVALID_ARGUMENT for a page that nobody has */
  share(page: number): void {
    this.#assertTaken(page)
    this.#owners[page]!++
  }

  /** One owner less; without any the page is free. @throws INVALID_ARGUMENT for a page that nobody has */
  release(page: number): void {
    this.#assertTaken(page)
    if (--this.#owners[page]! === 0) this.#free.push(page)
  }

  #assertTaken(page: number): void {
    if (this.owners(page) > 0) return
    throw new SparseAttentionError('INVALID_ARGUMENT', {
      message: `Page ${page} is free.`,
      fix: 'Release a page once for each time that it was taken or shared.',
      where: 'page',
    })
  }
}
