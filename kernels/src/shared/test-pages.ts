import type { AttentionFrame, KeyPages } from '@sparse-attention/core'
import type { TestMemory } from './test-memory.js'

/** A page table of sequences of these lengths, whose pages lie in the pool in falling order. */
export function testPages(memory: TestMemory, lengths: readonly number[], pageSize: number): KeyPages {
  const width = Math.ceil(Math.max(...lengths, 1) / pageSize)
  const poolPages = lengths.length * width
  const rows = lengths.flatMap((length, b) => [
    length,
    ...Array.from({ length: width }, (_, n) => poolPages - 1 - b * width - n),
  ])
  return { pageSize, table: memory.words(Uint32Array.from(rows)), width, poolPages, metadata: {} }
}

/** Where page n of sequence b lies. */
export const pageAt = ({ width, poolPages }: KeyPages, b: number, n: number): number => poolPages - 1 - b * width - n

/** What primitives of pages read of a frame. */
export function testPageFrame(
  memory: TestMemory,
  frame: Pick<AttentionFrame, 'batch' | 'keyLength'> & Partial<AttentionFrame>,
): AttentionFrame {
  return { scratch: memory.scratch, planBuffer: memory.scratch, ...frame } as AttentionFrame
}
