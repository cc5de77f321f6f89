import { mergeTuning, parseTuningTable, type TuningTable } from './tuning.js'

/** In the page's IndexedDB: one record. */
const DATABASE = 'sparse-attention'
const STORE = 'tuning'
const KEY = 'table'

export interface LoadTuningOptions {
  /** Hears that there is a table which cannot be used. Default: `console.warn`. */
  readonly onNotice?: (notice: string) => void
}

/**
 * The table that `saveTuning` has kept: in a page in IndexedDB, in Node in the user's cache folder. Undefined where there is
 * none, also where it cannot be read: that is told, and no error.
 */
export async function loadTuning({
  onNotice = console.warn,
}: LoadTuningOptions = {}): Promise<TuningTable | undefined> {
  if (!globalThis.indexedDB) return undefined
  try {
    const stored = await transact<unknown>('readonly', (store) => store.get(KEY))
    return stored === undefined ? undefined : parseTuningTable(stored)
  } catch (error) {
    onNotice(unusable(`the page's IndexedDB '${DATABASE}'`, error))
    return undefined
  }
}

/**
 * Adds a table to the one that is kept. Of two writers at once the later one may undo what the earlier one added.
 *
 * @throws INVALID_FILE for a table that is none, and in Node when the file cannot be written
 */
export async function saveTuning(table: TuningTable): Promise<void> {
  const checked = parseTuningTable(table)
  const kept = await loadTuning({ onNotice: () => {} })
  await transact('readwrite', (store) => store.put(kept ? mergeTuning(kept, checked) : checked, KEY))
}

export function unusable(where: string, error: unknown): string {
  const reason = error instanceof Error ? error.message : String(error)
  return `sparse-attention: the tuning in ${where} is ignored. ${reason}`
}

async function transact<T>(
  mode: IDBTransactionMode,
  request: (store: IDBObjectStore) => IDBRequest<T> | IDBRequest,
): Promise<T> {
  const database = await new Promise<IDBDatabase>((resolve, reject) => {
    const opening = indexedDB.open(DATABASE, 1)
    opening.onupgradeneeded = () => opening.result.createObjectStore(STORE)
    opening.onsuccess = () => resolve(opening.result)
    opening.onerror = () => reject(opening.error)
    opening.onblocked = () => reject(new Error('Another page holds it open.'))
  })
  try {
    return await new Promise<T>((resolve, reject) => {
      const transaction = database.transaction(STORE, mode)
      const asked = request(transaction.objectStore(STORE))
      transaction.oncomplete = () => resolve(asked.result as T)
      transaction.onabort = () => reject(transaction.error)
    })
  } finally {
    database.close()
  }
}
