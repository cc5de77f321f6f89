import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { MethodFactory, OptionSpec } from '@sparse-attention/core'
import type { SeriesPoint } from '../../packages/cli/src/bench/table/series.js'

const root = join(import.meta.dirname, '..', '..')

/** Packages whose methods are a folder each, with a `method.ts`. */
export const methodPackages = ['prefill', 'decode', 'diffusion', 'vision'] as const

/** Ids of a package's methods: the names of its folders that hold one. */
export function methodFolders(name: string): string[] {
  const source = join(root, 'packages', name, 'src')
  return readdirSync(source)
    .filter((id) => existsSync(join(source, id, 'method.ts')))
    .sort()
}

/** `a-shape` is made by `aShape`. */
export const factoryName = (id: string): string => id.replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase())

const generated = '// Written by `pnpm methods` from the folders beside it.\n'

/** `src/methods.ts` of a package. */
export function methodsModule(ids: readonly string[]): string {
  const imports = ids.map((id) => `import { ${factoryName(id)} } from './${id}/method.js'`)
  const entries = ids.map((id) => `${factoryName(id)} as MethodFactory`)
  // As the formatter writes it: on one line where that has room.
  const oneLine = `export const methods: readonly MethodFactory[] = [${entries.join(', ')}]`
  const lines = `export const methods: readonly MethodFactory[] = [\n${entries.map((entry) => `  ${entry},\n`).join('')}]`
  return `${generated}${["import type { MethodFactory } from '@sparse-attention/core'", ...imports].join('\n')}

/** The methods of this package, for lists that read what a method says of itself. */
${oneLine.length <= 120 ? oneLine : lines}
`
}

/** Names of all folders of a package that export something: its methods, and what else it has. */
export function exportingFolders(name: string): string[] {
  const source = join(root, 'packages', name, 'src')
  return readdirSync(source).filter((folder) => existsSync(join(source, folder, 'index.ts')))
}

/** `src/index.ts` of a package. */
export function indexModule(folders: readonly string[]): string {
  const exports = [
    ...folders.map((folder) => [folder, `export * from './${folder}/index.js'`]),
    ['methods', "export { methods } from './methods.js'"],
  ]
  return `${generated}${exports
    .sort(([a], [b]) => (a! < b! ? -1 : 1))
    .map(([, line]) => line)
    .join('\n')}
`
}

/**
 * The table of methods between a README's two markers, from what the methods say of themselves.
 *
 * @param docs  where the README links to `docs/methods`: relative, or on the web for a package that is published
 */
export function withMethodTable(readme: string, methods: readonly MethodFactory[], docs: string): string {
  const rows = methods.map(({ definition: { id, phase, citation, capabilities, summary } }) => {
    const page = existsSync(join(root, 'docs/methods', `${id}.md`)) ? `[\`${id}\`](${docs}/${id}.md)` : `\`${id}\``
    const paper = `${citation.authors.split(',')[0]} ${citation.year}, [${citation.arxiv ?? 'paper'}](${citation.url})`
    const takes = (causal: boolean) => (capabilities.causal.includes(causal) ? 'yes' : 'no')
    return `| ${page} | ${phase} | ${summary} | ${paper} | ${takes(true)} | ${takes(false)} |`
  })
  const table = [
    '| Method | Phase | What it does | Paper | Causal | Not causal |',
    '|---|---|---|---|---|---|',
    ...rows,
  ].join('\n')
  const [start, end] = ['<!-- methods: written by `pnpm methods` -->\n', '<!-- /methods -->']
  const [before, rest] = readme.split(start)
  const after = rest?.split(end)[1]
  if (before === undefined || after === undefined)
    throw new Error('a README has lost the markers of its table of methods')
  return `${before}${start}\n${table}\n\n${end}${after}`
}

/** Charts that show a phase's methods beside dense attention, relative to `docs/methods`. */
const charts: Readonly<Record<string, readonly [picture: string, text: string, page: string]>> = {
  any: [
    '../benchmarks/2026-11-22-h100/time-against-density.svg',
    'Time of plans against their density: everything computed, on the right, is dense attention',
    '../benchmarks/README.md',
  ],
  prefill: [
    '../benchmarks/2026-11-22-h100/speed-against-length.svg',
    'Speed of each method for prompts against length',
    '../benchmarks/README.md',
  ],
  decode: [
    '../benchmarks/2026-11-22-h100/decode-against-length.svg',
    'Time of a step of each method for decoding against the length of the past',
    '../benchmarks/decode.md',
  ],
  diffusion: [
    '../benchmarks/2026-11-22-h100-video/quality-against-density.svg',
    'Closeness to the dense video against density, of each method for video',
    '../benchmarks/video.md',
  ],
  vision: [
    '../benchmarks/2026-11-22-h100/butterfly-routes.webp',
    'What regions of a photo attend to by bilevel-routing, and the mass that k regions cover',
    '../benchmarks/vision.md',
  ],
}

/** What a method for prompts takes and keeps at each length, from the file that the chart of its phase is drawn from. */
function measured(id: string): string[] {
  const file = join(root, 'docs/benchmarks/2026-11-22-h100/table.json')
  const { series, pytorch, date } = JSON.parse(readFileSync(file, 'utf8'))
  const points = (series as readonly SeriesPoint[]).filter((point) => point.chart === 'length' && point.series === id)
  const rows = points.flatMap(({ x, total, dense, density, recall }) => {
    if (total === null || dense === null || density === null || recall === null) return []
    const ms = `${total.medianMs.toPrecision(3)} ms`
    const percent = (share: number) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`
    const faster = `${(dense.medianMs / total.medianMs).toFixed(2)}×`
    return [`| ${x} | ${ms} | ${faster} | ${percent(density)} | ${percent(recall)} |`]
  })
  if (rows.length === 0) return []
  return [
    '| Tokens | Time, planning included | As fast as dense | Pairs computed | Mass kept |',
    '|---:|---:|---:|---:|---:|',
    ...rows,
    '',
    `*${pytorch.device}, ${date}: f16, causal, 8 heads of 128, prompts made to be concentrated ([which](../benchmarks/README.md#the-table)).*`,
    '',
  ]
}

const listed = (values: readonly (string | number)[]): string => values.map((value) => `\`${value}\``).join(', ')

function rangeOf(spec: OptionSpec): string {
  if (spec.type === 'choice') return listed(spec.choices)
  const whole =
    spec.type === 'number'
      ? spec.integer === true
        ? 'integer'
        : 'number'
      : `number, or a table [layer][${spec.type.slice('per-'.length)}]`
  const { min, max } = spec
  if (min === undefined && max === undefined) return whole
  if (max === undefined) return `${whole}, at least ${min}`
  return min === undefined ? `${whole}, at most ${max}` : `${whole}, ${min} to ${max}`
}

const optionsText = (options: object): string => {
  const entries = Object.entries(options).filter(([, value]) => value !== undefined)
  return entries.length === 0 ? 'the defaults' : entries.map(([name, value]) => `\`${name}: ${value}\``).join(', ')
}

/** Primitives that a method's folder takes from the kernels, by the names under which `docs/primitives.md` tells their cost. */
export function primitivesOf(name: string, id: string): string[] {
  const folder = join(root, 'packages', name, 'src', id)
  const source = readdirSync(folder)
    .filter((file) => file.endsWith('.ts') && !file.includes('.test.') && file !== 'reference.ts')
    .map((file) => readFileSync(join(folder, file), 'utf8'))
    .join('\n')
  const described = readFileSync(join(root, 'docs/primitives.md'), 'utf8')
  const imported = [...source.matchAll(/import \{([^}]*)\} from '@sparse-attention\/kernels'/g)].flatMap(([, list]) =>
    list!.split(',').map((part) => part.trim()),
  )
  return [...new Set(imported)].filter((primitive) => described.includes(`\`${primitive}\``)).sort()
}

/** A method's page with what the method says of itself between two markers at its end. */
export function withFacts(page: string, { definition }: MethodFactory, primitives: readonly string[]): string {
  const { id, phase, options, capabilities: takes, neutral } = definition
  const { causal, queryLength, dtypes, headDim, pages, state, grid = 'none', selfAttention } = takes
  const queries = { one: 'one at a time', many: 'more than one', any: 'any number' }[queryLength]
  const rows: [string, string][] = [
    ['Phase', phase],
    ['Causal', causal.length === 2 ? 'causal and not' : causal[0] ? 'only causal' : 'only not causal'],
    ['Queries', queries],
    ['dtypes', listed(dtypes)],
    ['head_dim', `multiples of ${headDim.multipleOf}, up to ${headDim.max}`],
    ['Keys in pages', pages ? 'yes' : 'no'],
    ['State from call to call', state ? 'yes' : 'no'],
    ['Grid', { none: 'not looked at', optional: 'taken where given', required: 'needed' }[grid]],
    ['Queries and keys of the same tokens', selfAttention ? 'needed' : 'not needed'],
    ['Equals dense attention with', optionsText(neutral)],
    ...[4096, 16384, 65536].map((length): [string, string] => [
      `\`scaled(${length})\``,
      optionsText(definition.scaled(length)),
    ]),
  ]
  const specs = Object.entries<OptionSpec>(options).map(
    ([name, spec]) => `| \`${name}\` | ${spec.default} | ${rangeOf(spec)} | ${spec.description} |`,
  )
  const costs =
    primitives.length === 0 ? [] : [`Made of ${listed(primitives)}: [what each costs](../primitives.md).`, '']
  const chart = charts[phase]
  const figure = chart ? [`![${chart[1]}](${chart[0]})`, '', `*${chart[1]}. [All figures](${chart[2]}).*`, ''] : []
  const [start, end] = ['<!-- facts: written by `pnpm methods` -->\n', '<!-- /facts -->\n']
  const text = page.split(start)[0]!.trimEnd()
  const facts = [
    '## As the code has it',
    '',
    '| | |',
    '|---|---|',
    ...rows.map(([what, value]) => `| ${what} | ${value} |`),
    '',
    ...(specs.length === 0 ? [] : ['| Option | Default | Takes | |', '|---|---|---|---|', ...specs, '']),
    ...costs,
    ...measured(id),
    ...figure,
  ]
  return `${text}\n\n${start}\n${facts.join('\n')}\n${end}`
}
