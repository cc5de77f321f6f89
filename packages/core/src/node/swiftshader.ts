import { rmSync } from 'node:fs'
import { mkdtemp, readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { brotliDecompress } from 'node:zlib'
import { SparseAttentionError } from '../errors.js'
import { type CachedFile, cacheFolder, ensureFiles, readTar } from './cache.js'
import { type DawnModule, dawnPath } from './dawn.js'
import { findPackage } from './packages.js'

const require: NodeJS.Require = createRequire(import.meta.url)

/** Whether the package `@sparticuz/chromium` carries a SwiftShader for this machine. */
export const hasSwiftShader: boolean = process.platform === 'linux' && process.arch === 'x64'

/**
 * Loads Dawn on SwiftShader, a Vulkan that runs on the CPU, from the package `@sparticuz/chromium`.
 *
 * Dawn looks for `libvulkan.so.1` first in the folder of its own binary. So a copy of Dawn is put into the user's cache
 * folder with SwiftShader beside it under that name (it has the loader's entry point). This needs neither a Vulkan loader
 * on the system nor environment variables, and leaves the Dawn that drives real hardware alone.
 *
 * @throws MISSING_DEPENDENCY when a package is not installed
 * @throws WEBGPU_UNAVAILABLE on a platform other than Linux x64, or when the files cannot be loaded
 */
export async function loadSwiftShader(): Promise<DawnModule> {
  if (!hasSwiftShader) {
    throw new SparseAttentionError('WEBGPU_UNAVAILABLE', {
      message: `There is no software adapter for ${process.platform}-${process.arch}; SwiftShader comes for linux-x64 only.`,
      fix: 'Use a machine with a GPU and its driver, or run in a browser.',
      where: 'adapter',
    })
  }
  const dawn = dawnPath()
  const chromium = findPackage('@sparticuz/chromium', 'The software adapter (SwiftShader)')
  const files: CachedFile[] = [
    { name: 'dawn.node', mode: 0o755, read: () => readFile(dawn.path) },
    { name: 'libvulkan.so.1', mode: 0o755, read: () => readSwiftShader(chromium.folder) },
  ]
  const failures: unknown[] = []
  for (const folder of [cachedFolder(chromium.version, dawn.version), temporaryFolder]) {
    try {
      const path = await folder()
      await ensureFiles(path, files)
      return require(join(path, 'dawn.node')) as DawnModule
    } catch (error) {
      if (SparseAttentionError.is(error)) throw error
      failures.push(error)
    }
  }
  throw new SparseAttentionError('WEBGPU_UNAVAILABLE', {
    message: `SwiftShader could not be loaded: ${failures.map((error) => (error instanceof Error ? error.message : error)).join('; ')}.`,
    fix: 'Use a Linux with glibc, and set XDG_CACHE_HOME to a folder that is writable and may hold executable files.',
    where: 'adapter',
    cause: failures[0],
  })
}

function cachedFolder(chromium: string, dawn: string): () => Promise<string> {
  return async () => {
    const cache = cacheFolder()
    if (cache === undefined) throw new Error('this user has no home folder')
    return join(cache, `swiftshader-${chromium}-dawn-${dawn}`)
  }
}

/** For a home that is read-only, full or mounted noexec. Dawn opens its Vulkan anew for every `GPU`, so it stays to the end. */
async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'sparse-attention-'))
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }))
  return folder
}

async function readSwiftShader(chromium: string): Promise<Uint8Array> {
  const path = join(chromium, 'bin', 'swiftshader.tar.br')
  const library = readTar(await promisify(brotliDecompress)(await readFile(path))).get('libvk_swiftshader.so')
  if (library === undefined) {
    throw new SparseAttentionError('WEBGPU_UNAVAILABLE', {
      message: `${path} holds no libvk_swiftshader.so.`,
      fix: 'Install a version of @sparticuz/chromium that this package was tested with: `npm install @sparticuz/chromium@147`.',
      where: '@sparticuz/chromium',
    })
  }
  return library
}
