// The table of docs/packages.md: what each package weighs, in a download, in a page and in node_modules.
import { existsSync, readdirSync, readFileSync, realpathSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'

const begin = '<!-- sizes: written by `pnpm packages --write` -->'
const end = '<!-- /sizes -->'

/** Bytes of a folder's files, without what is installed inside of it. */
function bytesOf(folder) {
  let bytes = 0
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) bytes += entry.name === 'node_modules' ? 0 : bytesOf(path)
    else if (entry.isFile()) bytes += statSync(path).size
  }
  return bytes
}

/** Where a package finds another: in its own node_modules, or beside itself. */
function find(name, from) {
  for (let folder = from; ; folder = dirname(folder)) {
    const path = join(folder, 'node_modules', name)
    if (existsSync(path)) return realpathSync(path)
    if (dirname(folder) === folder) return undefined
  }
}

/**
 * What an install of a package brings from elsewhere: its dependencies and theirs, with those optional ones that there are for this
 * machine. Peers are the user's.
 */
export function installed(folder, isOurs) {
  const found = new Map()
  const walk = (from) => {
    const { dependencies, optionalDependencies } = JSON.parse(readFileSync(join(from, 'package.json'), 'utf8'))
    for (const name of Object.keys({ ...dependencies, ...optionalDependencies })) {
      const path = find(name, from)
      if (path === undefined || found.has(path)) continue
      found.set(path, { name, bytes: isOurs(name) ? 0 : bytesOf(path) })
      walk(path)
    }
  }
  walk(folder)
  return [...found.values()]
}

const size = (bytes) =>
  bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`

/**
 * @param rows  of { manifest, sizes: { tarball, bundle? }, others: [{ name, bytes }] }
 */
export function sizeTable(rows) {
  const lines = rows.map(({ manifest, sizes, others }) => {
    const short = manifest.name.split('/')[1]
    const ours = others.filter(({ name }) => name.startsWith('@sparse-attention/')).length
    const rest = others.filter(({ name }) => !name.startsWith('@sparse-attention/'))
    const bytes = rest.reduce((sum, entry) => sum + entry.bytes, 0)
    const peers = Object.keys(manifest.peerDependencies ?? {}).map((name) => {
      return `\`${name}\`${manifest.peerDependenciesMeta?.[name]?.optional ? ' (optional)' : ''}`
    })
    const from = [
      ours > 0 && `${ours} of ours`,
      rest.length > 0 && `${rest.length} other${rest.length > 1 ? 's' : ''}, ${size(bytes)}`,
    ].filter(Boolean)
    const page = sizes.bundle === undefined ? '–' : size(sizes.bundle)
    return `| \`${short}\` | ${manifest.description} | ${size(sizes.tarball)} | ${page} | ${from.join(', ') || 'nothing'} | ${peers.join(', ') || '–'} |`
  })
  const head = [
    '| Package | What it is | Download | In a page | Installs with it | Peers |',
    '| --- | --- | ---: | ---: | --- | --- |',
  ]
  return [...head, ...lines].join('\n')
}

/** The document with another table. */
export function withTable(text, table) {
  const [before, rest] = text.split(begin)
  return `${before}${begin}\n\n${table}\n\n${end}${rest.split(end)[1]}`
}

/** Whether a document's table says what this one does; sizes may be off by a tenth, so that not every change is one of the table. */
export function saysTheSame(text, table) {
  const written = text.split(begin)[1]?.split(end)[0]?.trim() ?? ''
  const number = /\d+(?:\.\d+)? (?=[kM]B)/g
  const words = (string) => string.replace(number, '').replaceAll(/[kM]B/g, 'B').replaceAll(/ {2,}/g, ' ')
  const bytes = (string) =>
    [...string.matchAll(/(\d+(?:\.\d+)?) ([kM])B/g)].map(([, n, unit]) => n * (unit === 'k' ? 1e3 : 1e6))
  if (words(written) !== words(table)) return false
  const measured = bytes(table)
  // Sizes are rounded to a thousand bytes, which of a few is more than a tenth.
  return bytes(written).every((n, index) => Math.abs(n - measured[index]) <= Math.max(0.1 * measured[index], 2e3))
}
