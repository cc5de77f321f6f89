import { mkdir, readdir, readFile, realpath, symlink, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { dirname, extname, join, normalize } from 'node:path'
import type { Browser } from 'playwright-core'
import { build } from 'vite'
import { smokeProgram } from './smoke.js'
import { pnpm, readJson, root, run } from './workspace.mjs'

export type Client = 'npm' | 'pnpm'

/** What the program of a project found. */
export interface Found {
  readonly method: string
  readonly density: number
  readonly error: number
}

/** A folder without anything of this repository, to install packages into. */
export interface Project {
  readonly folder: string
  readonly client: Client
}

/** Settings that a package manager takes from its surroundings are left out; it knows one registry, and has a cache of its own. */
function surroundings(folder: string, registry: string): NodeJS.ProcessEnv {
  const inherited = Object.entries(process.env).filter(([name]) => !/^(npm|pnpm|vitest|node_env)/i.test(name))
  return {
    ...Object.fromEntries(inherited),
    npm_config_registry: registry,
    npm_config_userconfig: join(folder, 'npmrc'),
    npm_config_cache: join(folder, 'cache'),
    npm_config_update_notifier: 'false',
    no_proxy: '127.0.0.1',
    NO_PROXY: '127.0.0.1',
  }
}

/** npm wants to know who publishes, though the registry does not. */
export async function publish(tarball: string, registry: string): Promise<void> {
  const folder = dirname(tarball)
  await writeFile(join(folder, 'npmrc'), `//${new URL(registry).host}/:_authToken=nobody\n`)
  // Provenance is signed where a release is made, in a workflow.
  const args = ['publish', tarball, '--no-provenance', '--access', 'public']
  await run('npm', args, { cwd: folder, env: surroundings(folder, registry) })
}

/** Installs into a fresh project as a user does who follows a README. */
export async function install(
  folder: string,
  client: Client,
  names: readonly string[],
  registry: string,
): Promise<Project> {
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, 'npmrc'), '')
  await writeFile(join(folder, 'package.json'), JSON.stringify({ name: 'project', private: true, type: 'module' }))
  const env = surroundings(folder, registry)
  if (client === 'npm') await run('npm', ['install', '--no-audit', '--no-fund', ...names], { cwd: folder, env })
  else {
    const own = ['--registry', registry, '--store-dir', join(folder, 'store'), '--cache-dir', join(folder, 'cache')]
    // Where npx has to find pnpm, it needs what the surroundings say.
    const { npm_execpath: running = '' } = process.env
    const given = running.includes('pnpm') ? { ...env, npm_execpath: running } : process.env
    await pnpm(['add', ...own, ...names], { cwd: folder, env: given })
  }
  return { folder, client }
}

/** Names of all packages that an install brought, sorted. */
export async function installedPackages({ folder, client }: Project): Promise<string[]> {
  const modules = join(folder, 'node_modules')
  if (client === 'npm') {
    const { packages } = (await readJson(join(modules, '.package-lock.json'))) as { packages: Record<string, unknown> }
    return Object.keys(packages)
      .map((path) => path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length))
      .sort()
  }
  const entries = await readdir(join(modules, '.pnpm'), { withFileTypes: true })
  // `@scope+name@version_peers`
  return entries
    .filter((entry) => entry.isDirectory() && entry.name !== 'node_modules')
    .map((entry) => entry.name.slice(0, entry.name.indexOf('@', 1)).replace('+', '/'))
    .sort()
}

/** The optional peers for Node are 300 MB: linked, not installed. */
async function linkPeers(folder: string): Promise<void> {
  for (const name of ['webgpu', '@sparticuz/chromium']) {
    const link = join(folder, 'node_modules', name)
    await mkdir(dirname(link), { recursive: true })
    await symlink(await realpath(join(root, 'node_modules', name)), link)
  }
}

/** Runs a package's first method in a process of Node, in the project. */
export async function runInNode({ folder }: Project, name: string): Promise<Found> {
  await linkPeers(folder)
  await writeFile(join(folder, 'smoke.mjs'), smokeProgram(name))
  const main = "import { run } from './smoke.mjs'\nconsole.log(JSON.stringify(await run()))\n"
  await writeFile(join(folder, 'main.mjs'), main)
  const { stdout } = await run(process.execPath, ['main.mjs'], { cwd: folder })
  return JSON.parse(stdout.trim().split('\n').at(-1)!) as Found
}

/** Bundles the same program with vite and runs it in a page. */
export async function runInPage({ folder }: Project, name: string, browser: Browser): Promise<Found> {
  await writeFile(join(folder, 'smoke.mjs'), smokeProgram(name))
  await writeFile(join(folder, 'page.mjs'), "import { run } from './smoke.mjs'\nglobalThis.found = run()\n")
  await writeFile(join(folder, 'index.html'), '<!doctype html><script type="module" src="/page.mjs"></script>')
  await build({ root: folder, configFile: false, logLevel: 'error', build: { target: 'esnext' } })
  const server = createServer((request, response) => {
    const path = normalize(new URL(request.url!, 'http://page').pathname)
    const type = { '.js': 'text/javascript', '.html': 'text/html' }[extname(path) || '.html'] ?? 'text/plain'
    readFile(join(folder, 'dist', path === '/' ? 'index.html' : path)).then(
      (bytes) => response.writeHead(200, { 'content-type': type }).end(bytes),
      () => response.writeHead(404).end(),
    )
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const page = await browser.newPage()
  try {
    await page.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`)
    return await page.evaluate(() => (globalThis as unknown as { found: Promise<Found> }).found)
  } finally {
    await page.close()
    server.closeAllConnections()
    server.close()
  }
}
