import { randomUUID } from 'node:crypto'
import { mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { SparseAttentionError } from '../errors.js'
import { mergeTuning, parseTuningTable, type TuningTable } from '../tuning.js'
import { type LoadTuningOptions, unusable } from '../tuning-cache.js'
import { cacheFolder } from './cache.js'

/** A full table is smaller: whatever this is, it is not read. */
const MOST_BYTES = 16 * 2 ** 20

/** Where `saveTuning` keeps its table: `tuning.json` in the user's cache folder. Undefined for a user without a home. */
export function tuningFile(env: NodeJS.ProcessEnv = process.env): string | undefined {
  const folder = cacheFolder(env)
  return folder === undefined ? undefined : join(folder, 'tuning.json')
}

/** As in pages, from the file. */
export async function loadTuning({
  onNotice = console.warn,
}: LoadTuningOptions = {}): Promise<TuningTable | undefined> {
  const path = tuningFile()
  if (path === undefined) return undefined
  try {
    const { size } = await stat(path)
    if (size > MOST_BYTES) throw new Error(`It has ${size} bytes; delete it.`)
    return parseTuningTable(JSON.parse(await readFile(path, 'utf8')))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') onNotice(unusable(path, error))
    return undefined
  }
}

/** As in pages, to the file. It appears under its name when it is complete. */
export async function saveTuning(table: TuningTable): Promise<void> {
  const checked = parseTuningTable(table)
  const path = tuningFile()
  if (path === undefined) throw unwritable('the cache folder', 'this user has no home folder')
  const kept = await loadTuning({ onNotice: () => {} })
  const partial = `${path}.${process.pid}.${randomUUID()}.partial`
  try {
    await mkdir(dirname(path), { recursive: true })
    await writeFile(partial, `${JSON.stringify(kept ? mergeTuning(kept, checked) : checked, null, 1)}\n`)
    await rename(partial, path)
  } catch (cause) {
    await rm(partial, { force: true }).catch(() => {})
    throw unwritable(path, (cause as NodeJS.ErrnoException).code ?? cause, cause)
  }
}

function unwritable(where: string, reason: unknown, cause?: unknown): SparseAttentionError {
  return new SparseAttentionError('INVALID_FILE', {
    message: `The tuning cannot be kept in ${where} (${reason}).`,
    fix: 'Set XDG_CACHE_HOME to a folder that may be written to.',
    where,
    cause,
  })
}
