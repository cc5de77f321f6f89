import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { SeriesPoint } from '../../packages/cli/src/bench/table/series.js'

/* Figures that documents name are those of the files beside them, which commands wrote. */

const root = join(import.meta.dirname, '..', '..')
const folder = 'docs/benchmarks/2026-11-22-h100'
const read = (path: string) => readFileSync(join(root, path), 'utf8')
const report = (name: string) => JSON.parse(read(`${folder}/${name}.json`))
const page = read('docs/benchmarks/README.md')

interface Run {
  readonly method: string
  readonly density: number
  readonly recall: number
  readonly prefillMs: number
  readonly attentionMs: number
  readonly lossChange: number
  readonly needle: { readonly found: boolean }
}

interface Unit {
  readonly method: string
  readonly tier: string
  readonly passed: number
}

test("the README's table of speed is that of the benchmark", () => {
  const { series, pytorch, rows } = report('table')
  const lengths = [8192, 32768, 131072]
  const ms = (time: number) => `${time.toPrecision(time < 100 ? 2 : 3)} ms`
  const percent = (share: number) => `${(100 * share).toFixed(0)} %`
  const points = (name: string) =>
    lengths.map((x) =>
      series.find((point: SeriesPoint) => point.chart === 'length' && point.series === name && point.x === x),
    )
  const cudnn = lengths.map((length) =>
    pytorch.results.find((one: { backend: string; length: number; causal: boolean }) => {
      return one.backend === 'cudnn' && one.length === length && one.causal
    }),
  )
  const lines = [
    ['PyTorch, cuDNN', ...cudnn.map(({ gpu }) => ms(gpu.medianMs))],
    ['dense, ours', ...points('dense').map(({ total }) => ms(total.medianMs))],
    ['XAttention, planning included', ...points('xattention').map(({ total }) => ms(total.medianMs))],
    ['… computes, of all pairs', ...points('xattention').map(({ density }) => percent(density))],
    ["… keeps, of the attention's mass", ...points('xattention').map(({ recall }) => percent(recall))],
  ]
  const readme = read('README.md').replaceAll(/\s+/g, ' ')
  for (const line of lines) expect(readme).toContain(`| ${line.join(' | ')} |`)
  const wanted = rows.filter(({ target }: { target: unknown }) => target)
  const met = wanted.filter((row: { met: boolean }) => row.met).length
  expect(readme).toContain(`of ${wanted.length} speeds that this project promises itself ${met} are reached`)
  const ort = rows.find(({ title }: { title: string }) => title.startsWith('onnxruntime-web'))
  expect(readme).toContain(`attention is ${Math.floor(ort.value)} times as fast as onnxruntime-web's`)
})

test.each<[page: string, script: string, folder: string, files: readonly string[]]>([
  ['README.md', 'summary.mjs', folder, ['table.json']],
  ['video.md', 'video.mjs', `${folder}-video`, ['video.json', 'video-2048.json']],
  ['diffusion.md', 'diffusion.mjs', folder, readdirSync(join(root, folder)).filter((name) => /^diffusion-/.test(name))],
])('%s of the benchmarks has the tables that its files make', (name, script, source, files) => {
  const copy = mkdtempSync(join(tmpdir(), 'sparse-attention-figures-'))
  try {
    const beside = join(copy, source.split('/').at(-1)!)
    mkdirSync(beside)
    cpSync(join(root, 'docs/benchmarks', name), join(copy, name))
    for (const file of files) cpSync(join(root, source, file), join(beside, file))
    // Of all in the folder, but for videos, which have one file for each length.
    const named = script === 'video.mjs' ? files : []
    const args = [join(root, 'scripts/bench', script), beside, ...named]
    const { status, stderr } = spawnSync(process.execPath, args)
    expect(status, String(stderr)).toBe(0)
    expect(readFileSync(join(copy, name), 'utf8')).toBe(read(`docs/benchmarks/${name}`))
  } finally {
    rmSync(copy, { recursive: true })
  }
})

test('counts of the conformance suite are those of its file', () => {
  const { tiers, units, passed, failed, extremes, missing } = report('conformance')
  expect([failed, missing]).toEqual([0, []])
  expect(page.replaceAll(/\s+/g, ' ')).toContain(`**${passed} passed, none failed**, ${extremes} of them`)
  expect(page).toContain(`| | ${tiers.join(' | ')} |`)
  const methods = new Set<string>(units.map(({ method }: Unit) => method))
  expect(methods.size).toBe(13)
  for (const method of methods) {
    const count = (tier: string) =>
      units
        .filter((unit: Unit) => unit.method === method && unit.tier === tier)
        .reduce((n: number, unit: Unit) => n + unit.passed, 0)
    expect(page).toContain(`| ${[method, ...tiers.map(count)].join(' | ')} |`)
  }
})

test('what the model does with a book is what was printed', () => {
  for (const length of [2048, 4096, 8192, 16384]) {
    const runs: Run[] = report(`prefill-${length}`).runs
    const [dense, sparse] = ['dense', 'xattention'].map((method) => runs.find((run) => run.method === method)!)
    const found = ({ needle }: Run) => (needle.found ? 'found' : 'missed')
    const loss = `${sparse!.lossChange < 0 ? '−' : '+'}${Math.abs(sparse!.lossChange).toFixed(3)}`
    const of = (key: 'attentionMs' | 'prefillMs', digits: number) =>
      `(${sparse![key].toFixed(digits)} / ${dense![key].toFixed(digits)} ms)`
    const row = page.split('\n').find((line) => line.startsWith(`| ${length} | ${sparse!.density.toFixed(3)} |`))
    expect(row, `${length}`).toBeDefined()
    for (const figure of [sparse!.recall.toFixed(3), of('attentionMs', 1), of('prefillMs', 0), loss])
      expect(row, `${length}`).toContain(figure)
    expect(row).toContain(`${found(dense!)} / ${found(sparse!)}`)
  }
  const { density, lossChange } = report('prefill-16384').runs[1]
  expect(read('README.md')).toContain(
    `${(100 * density).toFixed(0)} % of the pairs, the needle found, loss +${lossChange.toFixed(3)} nats`,
  )
  expect(read('docs/index.md')).toContain(`${(100 * density).toFixed(0)} % of the pairs`)
})

test('counts of tasks are those of the files', () => {
  const results = ['tasks-needle', 'tasks-4096'].flatMap((name) => report(name).results)
  expect(results.length).toBe(12)
  const titles: Readonly<Record<string, string>> = {
    needle: 'needle',
    'multi-key': 'multi-key, 4 look-alikes',
    'variable-tracking': 'variable tracking, 2 hops',
  }
  for (const { task, length, method, correct } of results) {
    const row = page.split('\n').find((line) => line.startsWith(`| ${titles[task]}`) && line.includes(`| ${length} |`))
    const [, , , dense, sparse] = row!.split('|').map((cell) => cell.trim())
    expect(method === 'dense' ? dense : sparse, `${task} ${length} ${method}`).toBe(`${correct} %`)
  }
})
