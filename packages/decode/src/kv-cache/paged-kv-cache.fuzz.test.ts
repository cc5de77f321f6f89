import { createRuntime, type PagedKVCache, type Runtime, recordDispatches } from '@sparse-attention/core'
import { assertAtRandom } from '@sparse-attention/testing'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, inject, test } from 'vitest'
import { type PagePool, pagePool } from './page-pool.js'
import { pagedKVCache } from './paged-kv-cache.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

const fuzz = inject('sparseAttentionFuzz') ?? { seed: 3 }

const [headDim, pageSize, poolPages, capacity, batch] = [8, 16, 9, 70, 2]

/** What a program may do with caches of one pool. `cache` is a number of those that there are. */
type Step =
  | { readonly do: 'append'; readonly cache: number; readonly tokens: number; readonly sequences: readonly number[] }
  | { readonly do: 'truncate'; readonly cache: number; readonly share: number; readonly sequence: number }
  | { readonly do: 'fork'; readonly cache: number; readonly sequences: readonly number[] }
  | { readonly do: 'dispose' | 'reset'; readonly cache: number }

const cache = fc.nat(3)
const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    {
      weight: 5,
      arbitrary: fc.record({
        do: fc.constant('append' as const),
        cache,
        tokens: fc.integer({ min: 1, max: 40 }),
        sequences: fc.subarray([0, 1]),
      }),
    },
    {
      weight: 2,
      arbitrary: fc.record({
        do: fc.constant('truncate' as const),
        cache,
        share: fc.double({ min: 0, max: 1, noNaN: true }),
        sequence: fc.integer({ min: -1, max: 1 }),
      }),
    },
    {
      weight: 2,
      arbitrary: fc.record({
        do: fc.constant('fork' as const),
        cache,
        sequences: fc.array(fc.nat(1), { minLength: 1, maxLength: 3 }),
      }),
    },
    { weight: 1, arbitrary: fc.record({ do: fc.constantFrom('dispose' as const, 'reset' as const), cache }) },
  ),
  { minLength: 10, maxLength: 30, size: 'max' },
)

/** A page of the model: the tokens in it, by their numbers, and who has it. */
interface Page {
  tokens: number[]
  owners: number
}

/** A cache of the model: the pages of each sequence, whose tokens are as many as the length. */
interface Model {
  readonly real: PagedKVCache
  readonly sequences: { length: number; pages: Page[] }[]
}

class World {
  readonly caches: Model[] = []
  #free = poolPages
  #next = 1

  constructor(readonly pool: PagePool) {}

  async add(): Promise<void> {
    const real = await pagedKVCache(runtime, { pool: this.pool, batch, capacity })
    this.caches.push({ real, sequences: Array.from({ length: batch }, () => ({ length: 0, pages: [] })) })
  }

  async step(step: Step): Promise<void> {
    const at = step.cache % Math.max(1, this.caches.length)
    const model = this.caches[at]
    if (!model) return this.add()
    const { real, sequences } = model
    const encoder = runtime.device.createCommandEncoder()
    switch (step.do) {
      case 'append':
        this.#append(
          model,
          step.tokens,
          [...new Set(step.sequences)].filter((n) => n < sequences.length),
        )
        break
      case 'truncate': {
        const sequence = step.sequence < 0 || step.sequence >= sequences.length ? undefined : step.sequence
        const held = sequence === undefined ? real.length : sequences[sequence]!.length
        const length = Math.floor(step.share * held)
        real.truncate(length, sequence)
        for (const [n, one] of sequences.entries()) if (sequence === undefined || n === sequence) this.#cut(one, length)
        break
      }
      case 'fork': {
        if (this.caches.length > 3) return
        const chosen = step.sequences.map((n) => n % sequences.length)
        const forked = real.fork(encoder, chosen)
        const copies = chosen.map((n) => ({ length: sequences[n]!.length, pages: [...sequences[n]!.pages] }))
        for (const { pages } of copies) for (const page of pages) page.owners++
        this.caches.push({ real: forked, sequences: copies })
        break
      }
      case 'reset':
        real.reset()
        for (const one of sequences) this.#cut(one, 0)
        break
      case 'dispose':
        real.dispose()
        for (const one of sequences) this.#cut(one, 0)
        this.caches.splice(at, 1)
        break
    }
    runtime.device.queue.submit([encoder.finish()])
    expect(this.pool.freePages).toBe(this.#free)
    for (const one of this.caches) expect(one.real.lengths).toEqual(one.sequences.map(({ length }) => length))
  }

  /** Either all of it, or LIMIT_EXCEEDED and nothing. */
  #append({ real, sequences }: Model, count: number, chosen: readonly number[]): void {
    const numbers = chosen.map(() => Array.from({ length: count }, () => this.#next++))
    const values = Float32Array.from(numbers.flat().flatMap((n) => new Array<number>(headDim).fill(n)))
    const make = (sign: number) =>
      runtime.tensor(
        'f32',
        [Math.max(1, chosen.length), 1, count, headDim],
        values.length > 0 ? values.map((x) => sign * x) : undefined,
      )
    using k = make(1)
    using v = make(-1)
    const encoder = runtime.device.createCommandEncoder()
    const append = () => real.append(encoder, k, v, { sequences: chosen })
    if (chosen.length === 0) {
      expect(append).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
      return
    }
    const fits =
      chosen.every((n) => sequences[n]!.length + count <= capacity) &&
      this.#needed(sequences, chosen, count) <= this.#free
    if (!fits) {
      expect(append).toThrow(expect.objectContaining({ code: 'LIMIT_EXCEEDED' }))
      return
    }
    append()
    runtime.device.queue.submit([encoder.finish()])
    for (const [i, n] of chosen.entries()) for (const token of numbers[i]!) this.#push(sequences[n]!, token)
  }

  /** Pages that an append takes: new ones, and copies of those that others have too. */
  #needed(sequences: Model['sequences'], chosen: readonly number[], count: number): number {
    const owners = new Map<Page, number>()
    let needed = 0
    for (const n of chosen) {
      const { length, pages } = sequences[n]!
      needed += Math.ceil((length + count) / pageSize) - pages.length
      const last = pages.at(-1)
      if (!last || length % pageSize === 0) continue
      const left = owners.get(last) ?? last.owners
      if (left > 1) needed++
      owners.set(last, left - 1)
    }
    return needed
  }

  #push(sequence: Model['sequences'][number], token: number): void {
    const within = sequence.length % pageSize
    if (within === 0) {
      sequence.pages.push({ tokens: [], owners: 1 })
      this.#free--
    }
    let last = sequence.pages.at(-1)!
    if (last.owners > 1) {
      last.owners--
      last = { tokens: last.tokens.slice(), owners: 1 }
      sequence.pages[sequence.pages.length - 1] = last
      this.#free--
    }
    last.tokens[within] = token
    sequence.length++
  }

  #cut(sequence: Model['sequences'][number], length: number): void {
    if (sequence.length <= length) return
    sequence.length = length
    for (const page of sequence.pages.splice(Math.ceil(length / pageSize))) if (--page.owners === 0) this.#free++
  }

  /** What the GPU has of each sequence, by its own table. */
  async check(): Promise<void> {
    for (const { real, sequences } of this.caches) {
      const { k, v, pages, dispatches } = real.view()
      const encoder = runtime.device.createCommandEncoder()
      recordDispatches(runtime.device, encoder, dispatches)
      runtime.device.queue.submit([encoder.finish()])
      const table = new Uint32Array(await runtime.readBytes(pages.table))
      const [keys, values] = [await runtime.read(k), await runtime.read(v)]
      for (const [n, { length, pages: expected }] of sequences.entries()) {
        const row = n * (pages.width + 1)
        expect(table[row]).toBe(length)
        const tokens = expected.flatMap((page) => page.tokens.slice(0, pageSize)).slice(0, length)
        const at = (i: number) => (table[row + 1 + Math.floor(i / pageSize)]! * pageSize + (i % pageSize)) * headDim
        expect(tokens.map((_, i) => keys[at(i)])).toEqual(tokens)
        expect(tokens.map((_, i) => -values[at(i) + headDim - 1]!)).toEqual(tokens)
      }
    }
  }
}

test(
  'fuzz: caches of one pool hold what a model of them on the host holds, whatever is done with them',
  async () => {
    using pool = await pagePool(runtime, { kvHeads: 1, headDim, dtype: 'f32', pages: poolPages, pageSize })
    const check = async (all: readonly Step[]) => {
      const world = new World(pool)
      try {
        await world.add()
        for (const step of all) await world.step(step)
        await world.check()
      } finally {
        for (const { real } of world.caches) real.dispose()
      }
      expect(pool.freePages).toBe(poolPages)
    }
    await assertAtRandom(steps, check, fuzz, 12)
  },
  60_000 + 2000 * (fuzz.seconds ?? 0),
)
