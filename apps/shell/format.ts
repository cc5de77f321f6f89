/** 9.6 MB, in powers of ten, as browsers count downloads. */
export function formatBytes(bytes: number): string {
  if (bytes < 1e3) return `${bytes} B`
  const unit = bytes < 1e6 ? 'kB' : bytes < 1e9 ? 'MB' : 'GB'
  const value = bytes / { kB: 1e3, MB: 1e6, GB: 1e9 }[unit]
  return `${value.toFixed(value < 100 ? 1 : 0)} ${unit}`
}

/** 12.3 ms, 1.23 s. */
export function formatMs(ms: number): string {
  if (ms < 1000) return `${ms < 10 ? ms.toFixed(2) : ms.toFixed(1)} ms`
  return `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`
}

/** 43.2 % */
export function formatShare(share: number): string {
  return `${(100 * share).toFixed(share > 0.9995 || share < 0.1 ? 2 : 1)} %`
}
