/** Seeded pseudo-random choices (mulberry32). The same seed gives the same choices on every platform. */
export class Random {
  #state: number

  /** @param seed any integer; its lower 32 bits count. */
  constructor(seed: number) {
    this.#state = seed | 0
  }

  /** A number in [0, 1). */
  fraction(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0
    let t = this.#state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }

  /** An integer in [0, limit). */
  integer(limit: number): number {
    return Math.floor(this.fraction() * limit)
  }

  pick<T>(items: readonly T[]): T {
    return items[this.integer(items.length)]!
  }

  /** `count` different items, in random order. */
  sample<T>(items: readonly T[], count: number): T[] {
    const rest = [...items]
    return Array.from({ length: count }, () => rest.splice(this.integer(rest.length), 1)[0]!)
  }

  /** A string of `count` decimal digits; the first may be 0. */
  digits(count: number): string {
    return Array.from({ length: count }, () => this.integer(10)).join('')
  }

  /** `count` fractions in ascending order. */
  ascending(count: number): number[] {
    return Array.from({ length: count }, () => this.fraction()).sort((a, b) => a - b)
  }
}
