import { allocateBuffer, type BufferSlice, isMissing, type Runtime } from '@sparse-attention/core'

/** The rows that clusters start from, on the GPU: uploaded once for each shape. */
export interface FirstRows {
  /** i32 [segments, groups]: distinct rows below `members`, the same of every segment, then the first row behind those. */
  get(shape: { segments: number; clusters: number; groups: number; members: number }): BufferSlice
  dispose(): void
}

/** Distinct numbers below `length`, at random but the same at every call (Floyd's sampling). */
export function sampleRows(count: number, length: number): number[] {
  let state = 0x9e3779b9
  const below = (end: number) => {
    // xorshift32
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) % end
  }
  const rows = new Set<number>()
  for (let end = length - count + 1; end <= length; end++) {
    const row = below(end)
    rows.add(rows.has(row) ? end - 1 : row)
  }
  return [...rows]
}

export function firstRows(runtime: Runtime): FirstRows {
  const uploaded = new Map<string, BufferSlice>()
  return {
    get({ segments, clusters, groups, members }) {
      const key = [segments, clusters, groups, members].join()
      const found = uploaded.get(key)
      if (found && !isMissing(found.buffer)) return found
      found?.buffer.destroy()
      const rows = sampleRows(clusters, members)
      if (groups > clusters) rows.push(members)
      const sizeBytes = Math.ceil((segments * groups * 4) / 16) * 16
      const buffer = allocateBuffer(runtime.device, {
        label: 'first rows',
        size: sizeBytes,
        usage: 0x80 | 0x08, // STORAGE | COPY_DST
      })
      const values = Int32Array.from({ length: segments * groups }, (_, i) => rows[i % groups]!)
      runtime.device.queue.writeBuffer(buffer, 0, values)
      const slice = { buffer, offsetBytes: 0, sizeBytes }
      uploaded.set(key, slice)
      return slice
    },
    dispose() {
      for (const { buffer } of uploaded.values()) buffer.destroy()
      uploaded.clear()
    },
  }
}
