import { expect } from 'vitest'

const MiB = 2 ** 20

/** What a process holds, after garbage was collected where that can be asked for. */
function memory(): { readonly heap: number; readonly resident: number } {
  globalThis.gc?.()
  const { heapUsed, external, rss } = process.memoryUsage()
  return { heap: heapUsed + external, resident: rss }
}

/**
 * Does something `runs` times, and prints how long that took and what it left. Past the first quarter, in which code is compiled and pools
 * are filled, memory must stay as it is.
 */
export async function repeat(name: string, runs: number, run: (n: number) => Promise<void>): Promise<void> {
  const start = performance.now()
  const settled = Math.ceil(runs / 4)
  let before = memory()
  for (let n = 0; n < runs; n++) {
    if (n === settled) before = memory()
    await run(n)
  }
  const after = memory()
  const heap = (after.heap - before.heap) / MiB
  const resident = (after.resident - before.resident) / MiB
  const seconds = (performance.now() - start) / 1000
  console.log(
    `soak: ${name}: ${runs} runs, ${seconds.toFixed(0)} s, heap ${heap.toFixed(1)} MiB, process ${resident.toFixed(1)} MiB`,
  )
  if (!globalThis.gc) return
  // Optimized code and caches come and go; 6 KB left of each of 750 runs would show, a result of which has 37.
  expect(heap, 'heap').toBeLessThan(4)
  // Allocators keep memory for themselves; what is left by each of 750 runs shows from 100 KB on.
  expect(resident, 'process').toBeLessThan(72)
}
