// Packs every public package as it would be published and checks the tarball: publint, types (attw), what must and must
// not be in it, that each entry point can be imported in Node, that what it imports is what it depends on, that ranges of
// peers hold what this repository is tested with, and sizes against budgets and against docs/packages.md, which `--write`
// writes. Needs a build.
//
// A package's budget is `sizeBudget` in its package.json, in KiB: `bundle`, the package with its share of the packages that
// it needs of this repository, for a page that uses all of it, minified and compressed, shaders included; and `tarball`,
// what npm downloads. Where it gives none, those of `usualBudget` hold.
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { isBuiltin } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gunzipSync, gzipSync } from 'node:zlib'
import { publint } from 'publint'
import { formatMessage } from 'publint/utils'
import semver from 'semver'
import { build } from 'vite'
import { installed, saysTheSame, sizeTable, withTable } from './release/sizes.mjs'
import { pack, publicPackages, readJson, root, run } from './release/workspace.mjs'

const usualBudget = { bundle: 64, tarball: 256 }

/** The versions that all packages share, as pnpm-workspace.yaml pins them. */
const catalog = Object.fromEntries(
  (await readFile(join(root, 'pnpm-workspace.yaml'), 'utf8'))
    .split(/^catalog:$/m)[1]
    .split('\n')
    .map((line) => /^ {2}'?([^':]+)'?: (\S+)$/.exec(line)?.slice(1))
    .filter(Boolean),
)

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

const isOurs = (id) => /^[./\0]/.test(id) || id.startsWith('@sparse-attention/')
const packageOf = (id) => /^(@[^/]+\/)?[^/]+/.exec(id)[0]
const kib = (bytes) => `${(bytes / 1024).toFixed(1)} KiB`

/** What an entry point becomes in a page, and what it imports that `external` leaves out. */
async function bundle(folder, external, entry = 'dist/index.js') {
  const { output } = await build({
    root: folder,
    configFile: false,
    logLevel: 'silent',
    build: {
      write: false,
      target: 'esnext',
      modulePreload: false,
      rollupOptions: { input: join(folder, entry), external, preserveEntrySignatures: 'strict' },
    },
  })
  const chunks = output.filter(({ type }) => type === 'chunk')
  const inside = new Set(chunks.map(({ fileName }) => fileName))
  const imports = chunks.flatMap((chunk) => [...chunk.imports, ...chunk.dynamicImports])
  return { code: chunks.map(({ code }) => code).join('\n'), imports: imports.filter((id) => !inside.has(id)) }
}

/** A package depends on what it imports, and on nothing else. */
async function checkImports({ folder, manifest }, files) {
  const declared = { ...manifest.dependencies, ...manifest.optionalDependencies, ...manifest.peerDependencies }
  const scripts = files.filter((file) => /\.[cm]?js$/.test(file))
  const imported = new Set()
  for (const file of scripts) {
    const { imports } = await bundle(folder, (id) => !/^[./\0]/.test(id), file)
    for (const id of imports) if (!isBuiltin(id)) imported.add(packageOf(id))
  }
  const problems = [...imported]
    .filter((name) => !(name in declared) && name !== manifest.name)
    .map((name) => `it imports ${name}, which is not among its dependencies`)
  // Files of a package may be found by its name, and peers of a dependency are there for it.
  const texts = await Promise.all(scripts.map((file) => readFile(join(folder, file), 'utf8')))
  const peers = new Set()
  for (const name of Object.keys(manifest.dependencies ?? {})) {
    const { peerDependencies = {} } = await readJson(join(folder, 'node_modules', name, 'package.json'))
    for (const peer of Object.keys(peerDependencies)) peers.add(peer)
  }
  const used = (name) => imported.has(name) || peers.has(name) || texts.some((text) => text.includes(name))
  for (const name of Object.keys(declared)) if (!used(name)) problems.push(`it depends on ${name} and does not use it`)
  return problems
}

/** The version that tests run with is in the range that users are told; what is a peer is not a dependency too. */
function checkPeers({ dependencies = {}, devDependencies = {}, peerDependencies = {} }) {
  const problems = []
  for (const [name, range] of Object.entries(peerDependencies)) {
    const given = devDependencies[name]
    const tested = given === 'catalog:' ? catalog[name] : given
    if (name in dependencies) problems.push(`${name} is a peer and a dependency`)
    if (tested === undefined) problems.push(`its peer ${name} is not among devDependencies: no test runs with it`)
    else if (!semver.satisfies(tested, range))
      problems.push(`its peer ${name} ${range} leaves out the tested ${tested}`)
  }
  return problems
}

async function check({ folder, manifest }, destination) {
  const problems = []
  const filename = await pack(folder, destination)
  const tarball = await readFile(filename)

  const lint = await publint({ pack: { tarball: new Uint8Array(tarball).buffer }, strict: true })
  for (const message of lint.messages) problems.push(`publint: ${formatMessage(message, lint.pkg, { color: false })}`)

  const attw = join(root, 'node_modules', '@arethetypeswrong', 'cli', 'dist', 'index.js')
  const options = ['--profile', 'esm-only', '--no-definitely-typed', '--no-color', '--no-emoji', '--format', 'ascii']
  await run(process.execPath, [attw, filename, ...options], { cwd: root }).catch((error) => {
    problems.push(`attw:\n${error.stdout || error.message}`)
  })

  const files = listTar(gunzipSync(tarball))
  problems.push(...(await checkImports({ folder, manifest }, files)), ...checkPeers(manifest))
  // There is no changelog before the first release.
  const changelog = existsSync(join(folder, 'CHANGELOG.md')) ? ['CHANGELOG.md'] : []
  for (const wanted of ['README.md', 'LICENSE', ...changelog]) {
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
  const printed = await run(process.execPath, ['--input-type=module', '--eval', imports], { cwd: folder }).then(
    ({ stdout, stderr }) => stdout + stderr,
    ({ stderr, message }) => /^.*Error.*:.*$/m.exec(stderr ?? '')?.[0] ?? message,
  )
  if (printed !== '') problems.push(`importing ${entries.join(', ')} in Node printed: ${printed}`)

  // A program for Node is in no page.
  const bundled = manifest.bin ? undefined : await bundle(folder, (id) => !isOurs(id))
  const sizes = { tarball: tarball.length, ...(bundled && { bundle: gzipSync(bundled.code).length }) }
  const budget = { ...usualBudget, ...manifest.sizeBudget }
  for (const [kind, bytes] of Object.entries(sizes)) {
    if (bytes <= budget[kind] * 1024) continue
    problems.push(`the ${kind} takes ${kib(bytes)}, more than the ${budget[kind]} KiB of its sizeBudget`)
  }
  const others = installed(folder, isOurs)
  return { manifest, name: manifest.name, sizes, others, files: files.length, problems }
}

const destination = await mkdtemp(join(tmpdir(), 'sparse-attention-pack-'))
let failed = false
try {
  const reports = await Promise.all((await publicPackages()).map((entry) => check(entry, destination)))
  console.log(`${'package'.padEnd(32)}${'tarball'.padStart(12)}${'bundle'.padStart(12)}`)
  for (const { name, sizes, files, problems } of reports) {
    const columns = [sizes.tarball, sizes.bundle].map((bytes) => (bytes === undefined ? '' : kib(bytes)).padStart(12))
    const verdict = problems.length === 0 ? 'ok' : 'FAILED'
    console.log(`${name.padEnd(32)}${columns.join('')}  ${String(files).padStart(4)} files  ${verdict}`)
    for (const problem of problems) console.error(`  ${problem.replaceAll('\n', '\n  ')}`)
    failed ||= problems.length > 0
  }
  const page = join(root, 'docs', 'packages.md')
  const text = await readFile(page, 'utf8')
  const table = sizeTable(reports)
  if (process.argv.includes('--write')) await writeFile(page, withTable(text, table))
  // Elsewhere other binaries are installed.
  else if (`${process.platform} ${process.arch}` === 'linux x64' && !saysTheSame(text, table)) {
    failed = true
    console.error('docs/packages.md has other sizes or dependencies: `pnpm packages --write` writes its table.')
  }
} finally {
  await rm(destination, { recursive: true })
}
if (failed) process.exitCode = 1
