import { execFile } from 'node:child_process'
import { readdir, readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

export const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))))

const exec = promisify(execFile)
export const run = (file, args, options) => exec(file, args, { maxBuffer: 2 ** 26, ...options })

/** The pnpm that runs this script, else the one that package.json names. */
export async function pnpm(args, options) {
  const running = process.env.npm_execpath
  if (running?.includes('pnpm')) {
    return /\.[cm]?js$/.test(running) ? run(process.execPath, [running, ...args], options) : run(running, args, options)
  }
  const { packageManager } = await readJson(join(root, 'package.json'))
  return run('npx', ['--yes', packageManager, ...args], options)
}

export const readJson = async (path) => JSON.parse(await readFile(path, 'utf8'))

/** What is published: every package of the workspace that is not private. */
export async function publicPackages() {
  const folders = [join(root, 'kernels')]
  for (const entry of await readdir(join(root, 'packages'))) folders.push(join(root, 'packages', entry))
  const packages = []
  for (const folder of folders) {
    const manifest = await readJson(join(folder, 'package.json')).catch(() => undefined)
    if (manifest !== undefined && !manifest.private) packages.push({ folder, manifest })
  }
  return packages
}

/** Makes the tarball that would be published, and tells its path. */
export async function pack(folder, destination) {
  const { stdout } = await pnpm(['pack', '--json', '--pack-destination', destination], { cwd: folder })
  return JSON.parse(stdout).filename
}
