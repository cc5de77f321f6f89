import { randomUUID } from 'node:crypto'
import { mkdir, rename, rm, stat, writeFile } from 'node:fs/promises'
import { userInfo } from 'node:os'
import { isAbsolute, join } from 'node:path'

/**
 * Where unpacked files are kept between runs: `$XDG_CACHE_HOME/sparse-attention`, by default under `~/.cache`; undefined
 * for a user without a home. A relative `XDG_CACHE_HOME` is ignored, as its specification asks.
 */
export function cacheFolder(env: NodeJS.ProcessEnv = process.env): string | undefined {
  const { XDG_CACHE_HOME: cache, HOME: home } = env
  if (cache !== undefined && isAbsolute(cache)) return join(cache, 'sparse-attention')
  if (home !== undefined && isAbsolute(home)) return join(home, '.cache', 'sparse-attention')
  try {
    return join(userInfo().homedir, '.cache', 'sparse-attention')
  } catch {
    return undefined // a user id without an account, as containers have
  }
}

/** A file to keep in a cache folder: its name there, and how to make it. */
export interface CachedFile {
  readonly name: string
  readonly mode: number
  read(): Promise<Uint8Array>
}

/**
 * Makes sure that `folder` holds each file, and makes the missing ones.
 *
 * Safe with several processes at once: a file is written under a name of its own and renamed into place, so a file that
 * is there is complete, and the last writer of equal bytes wins.
 */
export async function ensureFiles(folder: string, files: readonly CachedFile[]): Promise<void> {
  await mkdir(folder, { recursive: true })
  for (const file of files) {
    const path = join(folder, file.name)
    if (await isFile(path)) continue
    const partial = `${path}.${process.pid}.${randomUUID()}.partial`
    try {
      await writeFile(partial, await file.read(), { mode: file.mode })
      await rename(partial, path)
    } finally {
      await rm(partial, { force: true })
    }
  }
}

async function isFile(path: string): Promise<boolean> {
  try {
    const found = await stat(path)
    return found.isFile() && found.size > 0
  } catch {
    return false
  }
}

/** The regular files in a tar archive, by name. Enough for the plain ustar archives that packages ship. */
export function readTar(archive: Uint8Array): Map<string, Uint8Array> {
  const files = new Map<string, Uint8Array>()
  const text = (start: number, length: number): string => {
    const end = archive.subarray(start, start + length).indexOf(0)
    return new TextDecoder().decode(archive.subarray(start, start + (end < 0 ? length : end)))
  }
  const blockBytes = 512
  let header = 0
  while (header + blockBytes <= archive.length && archive[header] !== 0) {
    const size = Number.parseInt(text(header + 124, 12), 8)
    const type = text(header + 156, 1)
    const content = header + blockBytes
    if (type === '' || type === '0') files.set(text(header, 100), archive.subarray(content, content + size))
    header = content + Math.ceil(size / blockBytes) * blockBytes
  }
  return files
}
