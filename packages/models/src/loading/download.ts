import { SparseAttentionError } from '@sparse-attention/core'

/** How far a download is, over all its files. */
export interface LoadProgress {
  readonly loadedBytes: number
  /** Unknown while a server has not said the size of every file, or sends them compressed. */
  readonly totalBytes: number | undefined
}

export interface DownloadOptions {
  /** Rejects with the signal's reason and stops the transfers. */
  readonly signal?: AbortSignal
  readonly onProgress?: (progress: LoadProgress) => void
  /** The `fetch` to use, for instance one that keeps a cache. Default: the global one. */
  readonly fetch?: typeof globalThis.fetch
}

/**
 * Fetches files of one folder at the same time.
 *
 * @throws SparseAttentionError `INVALID_FILE` where a file cannot be had whole.
 */
export async function download<File extends string>(
  folder: URL,
  files: readonly File[],
  options: DownloadOptions = {},
): Promise<Record<File, Uint8Array<ArrayBuffer>>> {
  const { signal, onProgress } = options
  signal?.throwIfAborted()
  // One failed file stops the others: nobody will use them.
  const stop = new AbortController()
  const either = signal === undefined ? stop.signal : AbortSignal.any([signal, stop.signal])
  const loaded = files.map(() => 0)
  const totals: (number | undefined)[] = files.map(() => undefined)
  const sum = (numbers: readonly (number | undefined)[]): number | undefined =>
    numbers.reduce((a, b) => (a === undefined || b === undefined ? undefined : a + b), 0)

  const fetchOne = async (file: File, index: number): Promise<[File, Uint8Array<ArrayBuffer>]> => {
    const url = new URL(file, folder)
    const response = await (options.fetch ?? fetch)(url, { signal: either })
    if (!response.ok || response.body === null) {
      throw incomplete(url, `the server answered ${response.status} ${response.statusText}`.trim())
    }
    const length = Number(response.headers.get('content-length') ?? Number.NaN)
    // A compressed answer's length is that of the compressed bytes.
    const plain = response.headers.get('content-encoding') === null
    totals[index] = plain && Number.isSafeInteger(length) ? length : undefined
    const parts: Uint8Array<ArrayBuffer>[] = []
    for (const reader = response.body.getReader(); ; ) {
      const { done, value } = await reader.read()
      if (done) break
      parts.push(value)
      loaded[index]! += value.length
      onProgress?.({ loadedBytes: sum(loaded)!, totalBytes: sum(totals) })
    }
    if (totals[index] !== undefined && totals[index] !== loaded[index]) {
      throw incomplete(url, `${loaded[index]} of ${totals[index]} bytes came`)
    }
    return [file, new Uint8Array(await new Blob(parts).arrayBuffer())]
  }

  try {
    const entries = await Promise.all(
      files.map((file, index) =>
        fetchOne(file, index).catch((cause) => {
          if (either.aborted || SparseAttentionError.is(cause)) throw cause
          throw incomplete(new URL(file, folder), String(cause?.message ?? cause), cause)
        }),
      ),
    )
    return Object.fromEntries(entries) as Record<File, Uint8Array<ArrayBuffer>>
  } catch (error) {
    stop.abort()
    signal?.throwIfAborted()
    throw error
  }
}

function incomplete(url: URL, what: string, cause?: unknown): SparseAttentionError {
  return new SparseAttentionError('INVALID_FILE', {
    where: url.href,
    message: `Could not load ${url.href}: ${what}.`,
    fix: 'Check that the folder is served, and the network.',
    cause,
  })
}

/** `from` as the URL of a folder. Relative addresses are relative to the page. */
export function folderUrl(from: string | URL | undefined, what: string): URL {
  const base = typeof document === 'undefined' ? undefined : document.baseURI
  if (from !== undefined && (from instanceof URL || URL.canParse(from, base))) {
    const url = new URL(from, base)
    if (!url.pathname.endsWith('/')) url.pathname += '/'
    return url
  }
  throw new SparseAttentionError('INVALID_ARGUMENT', {
    where: 'from',
    message: `from is ${from === undefined ? 'missing' : JSON.stringify(from)}.`,
    fix: `Give the URL of the folder that holds ${what}, or import from '@sparse-attention/models/node' in Node.`,
  })
}
