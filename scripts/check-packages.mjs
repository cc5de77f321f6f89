// Packs every public package as it would be published and checks the tarball: publint, types (attw), what must and must
// not be in it, and that each entry point can be imported in Node. Prints sizes. Needs a build.
import { execFile } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { gunzipSync } from 'node:zlib'
import { publint } from 'publint'
import { formatMessage } from 'publint/utils'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const exec = promisify(execFile)
const run = (file, args, cwd) => exec(file, args, { cwd, maxBuffer: 2 ** 26 })

/** The pnpm that runs this script, else the one that package.json names. */
async function pnpm(args, cwd) {
  const running = process.env.npm_execpath
  if (running?.includes('pnpm')) {
    return /\.[cm]?js$/.test(running) ? run(process.execPath, [running, ...args], cwd) : run(running, args, cwd)
  }
  const { packageManager } = await readJson(join(root, 'package.json'))
  return run('npx', ['--yes', packageManager, ...args], cwd)
}

const readJson = async (path) => JSON.parse(await readFile(path, 'utf8'))

async function publicPackages() {
  const folders = [join(root, 'kernels')]
  for (const entry of await readdir(join(root, 'packages'))) folders.push(join(root, 'packages', entry))
  const packages = []
  for (const folder of folders) {
    const manifest = await readJson(join(folder, 'package.json')).catch(() => undefined)
    if (manifest !== undefined && !manifest.private) packages.push({ folder, manifest })
  }
  return packages
}

/** Names of the files in a tar archive, below its one folder. (pnpm's own list leaves out the LICENSE that it adds.) */
function listTar(archive) {
  const field = (start, length) => archive.toString('utf8', start, start + length).replace(/\0.*$/s, '')
  const names = []
  for (let header = 0; archive[header]; ) {
    names.push((field(header + 345, 155) + field(header, 100)).replace(/^[^/]*\//, ''))
    header += 512 + Math.ceil(Number.parseInt(field(header + 124, 12), 8) / 512) * 512
  }
  return names
}

/** The subpaths that a pattern with `*` stands for, by the files that there are. */
function expand(subpath, target, files) {
  if (!subpath.includes('*')) return [subpath]
  const [before, after] = target.slice('./'.length).split('*')
  return files
    .filter((file) => file.startsWith(before) && file.endsWith(after) && file.length > before.length + after.length)
    .map((file) => subpath.replace('*', file.slice(before.length, file.length - after.length)))
}

async function check({ folder, manifest }, destination) {
  const problems = []
  const packed = JSON.parse((await pnpm(['pack', '--json', '--pack-destination', destination], folder)).stdout)
  const tarball = await readFile(packed.filename)

  const lint = await publint({ pack: { tarball: new Uint8Array(tarball).buffer }, strict: true })
  for (const message of lint.messages) problems.push(`publint: ${formatMessage(message, lint.pkg, { color: false })}`)

  const attw = join(root, 'node_modules', '@arethetypeswrong', 'cli', 'dist', 'index.js')
  const options = ['--profile', 'esm-only', '--no-definitely-typed', '--no-color', '--no-emoji', '--format', 'ascii']
  await run(process.execPath, [attw, packed.filename, ...options], root).catch((error) => {
    problems.push(`attw:\n${error.stdout || error.message}`)
  })

  const files = listTar(gunzipSync(tarball))
  for (const wanted of ['README.md', 'LICENSE']) {
    if (!files.includes(wanted)) problems.push(`the tarball has no ${wanted}`)
  }
  for (const path of files) {
    if (/\.(test|bench)\.|(^|\/)(test|node_modules)\//.test(path)) problems.push(`the tarball holds ${path}`)
  }

  const entries = Object.entries(manifest.exports)
    .filter(([, target]) => typeof target === 'object')
    .flatMap(([subpath, { default: target }]) => expand(subpath, target, files))
    .map((subpath) => manifest.name + subpath.slice(1))
  const imports = `for (const name of ${JSON.stringify(entries)}) await import(name)`
  const printed = await run(process.execPath, ['--input-type=module', '--eval', imports], folder).then(
    ({ stdout, stderr }) => stdout + stderr,
    ({ stderr, message }) => /^.*Error.*:.*$/m.exec(stderr ?? '')?.[0] ?? message,
  )
  if (printed !== '') problems.push(`importing ${entries.join(', ')} in Node printed: ${printed}`)

  return { name: manifest.name, bytes: tarball.length, files: files.length, problems }
}

const destination = await mkdtemp(join(tmpdir(), 'sparse-attention-pack-'))
let failed = false
try {
  const reports = await Promise.all((await publicPackages()).map((entry) => check(entry, destination)))
  for (const { name, bytes, files, problems } of reports) {
    const size = `${(bytes / 1024).toFixed(1)} KiB`.padStart(12)
    console.log(
      `${name.padEnd(32)}${size}  ${String(files).padStart(4)} files  ${problems.length === 0 ? 'ok' : 'FAILED'}`,
    )
    for (const problem of problems) console.error(`  ${problem.replaceAll('\n', '\n  ')}`)
    failed ||= problems.length > 0
  }
} finally {
  await rm(destination, { recursive: true })
}
if (failed) process.exitCode = 1
