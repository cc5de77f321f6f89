import { readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { brotliDecompress } from 'node:zlib'
import type { LaunchOptions } from 'playwright-core'
import { cacheFolder, ensureFiles, readTar } from '../../packages/core/src/node/cache.js'
import { findPackage } from '../../packages/core/src/node/packages.js'

const args = [
  // Tests load only our own pages, and containers often lack what the sandbox needs.
  '--no-sandbox',
  '--enable-unsafe-webgpu',
  '--use-webgpu-adapter=swiftshader',
  // /dev/shm has 64 MB in containers.
  '--disable-dev-shm-usage',
]

/**
 * How to start a Chromium with WebGPU on the CPU: the one in SPARSE_ATTENTION_CHROME, else the one that the package
 * `@sparticuz/chromium` carries for linux-x64 together with the system libraries it needs, else an installed Chrome.
 */
export async function chromiumLaunchOptions(): Promise<LaunchOptions> {
  const given = process.env.SPARSE_ATTENTION_CHROME
  if (given) return { executablePath: given, args }
  if (process.platform !== 'linux' || process.arch !== 'x64') return { channel: 'chrome', args }
  const folder = await unpackChromium()
  const libraryPath = [join(folder, 'lib'), process.env.LD_LIBRARY_PATH].filter(Boolean).join(':')
  return {
    executablePath: join(folder, 'chromium'),
    args,
    env: { ...process.env, LD_LIBRARY_PATH: libraryPath, FONTCONFIG_PATH: folder },
  }
}

/**
 * Unpacks the package's archives into the user's cache folder. Its own `executablePath()` unpacks into the system's
 * temporary folder, where two processes at once get half a file, and leaves the libraries out unless it runs on Lambda.
 */
async function unpackChromium(): Promise<string> {
  const found = findPackage('@sparticuz/chromium', 'A browser test')
  const folder = join(cacheFolder() ?? join(tmpdir(), 'sparse-attention'), `chromium-${found.version}`)
  const unpack = async (name: string): Promise<Uint8Array> =>
    promisify(brotliDecompress)(await readFile(join(found.folder, 'bin', name)))

  // al2023 holds NSS and the others under `lib/`.
  for (const archive of ['swiftshader.tar.br', 'al2023.tar.br', 'fonts.tar.br']) {
    const marker = { name: `${archive}.unpacked`, mode: 0o644 }
    const read = async (): Promise<Uint8Array> => {
      for (const [path, bytes] of readTar(await unpack(archive))) {
        if (path === 'fonts.conf') continue
        const target = join(folder, dirname(path))
        await ensureFiles(target, [{ name: basename(path), mode: 0o755, read: async () => bytes }])
      }
      return new TextEncoder().encode(found.version)
    }
    await ensureFiles(folder, [{ ...marker, read }])
  }
  await ensureFiles(folder, [
    { name: 'fonts.conf', mode: 0o644, read: async () => new TextEncoder().encode(fontConfiguration(folder)) },
    { name: 'chromium', mode: 0o755, read: () => unpack('chromium.br') },
  ])
  return folder
}

/** The package's own names folders outside of ours. Without any font Chromium cannot lay out a page. */
function fontConfiguration(folder: string): string {
  return `<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir>${folder}/fonts</dir>
  <cachedir>${folder}/fonts-cache</cachedir>
</fontconfig>
`
}
