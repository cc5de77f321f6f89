// Writes what a run of `bench table` found into docs/benchmarks/README.md, between its two marks:
//
//   node scripts/bench/summary.mjs docs/benchmarks/<folder>
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { writeBetween } from './between-marks.mjs'

const begin = '<!-- table: written by scripts/bench/summary.mjs -->'
const end = '<!-- end of table -->'

/** In the row's unit; a share is a number between 0 and 1. */
function format(value, unit) {
  if (unit === '%') return `${(100 * value).toFixed(value < 0.1 ? 1 : 0)} %`
  if (unit === '×') return value.toFixed(2)
  return `${value < 10 ? value.toFixed(1) : value.toFixed(0)} TFLOPS`
}

function target({ target: wanted, unit }) {
  if (!wanted) return '–'
  return 'atLeast' in wanted ? `≥ ${format(wanted.atLeast, unit)}` : `≤ ${format(wanted.atMost, unit)}`
}

function line(row) {
  const measured = row.value === null ? row.status : format(row.value, row.unit)
  const verdict = row.met === null ? '' : row.met ? '✓' : '**missed**'
  const [first] = Object.values(row.times)
  const time = first ? first.medianMs.toFixed(first.medianMs < 1 ? 3 : 2) : '–'
  const extra = [
    row.density === null ? '' : `density ${row.density.toFixed(3)}`,
    row.recall === null ? '' : `recall ${row.recall.toFixed(3)}`,
    row.note ?? row.reason ?? '',
  ].filter(Boolean)
  return `| ${row.title} | ${target(row)} | ${measured} | ${verdict} | ${time} | ${extra.join(', ')} |`
}

/** Methods beside dense and PyTorch at each length: times of planning and attending. */
function methodTable({ series, pytorch }) {
  const points = series.filter(({ chart }) => chart === 'length')
  const methods = [...new Set(points.map((point) => point.series))]
  const lengths = [...new Set(points.map(({ x }) => x))]
  if (lengths.length === 0) return []
  const backends = { cudnn: 'PyTorch cuDNN', 'flash-attention': 'PyTorch FlashAttention-2' }
  const ms = ({ medianMs }) => `${medianMs.toFixed(medianMs < 1 ? 3 : medianMs < 10 ? 2 : 1)} ms`
  const cell = (point) => {
    if (!point?.total) return point?.status ?? '–'
    if (point.series === 'dense') return ms(point.total)
    return `${(point.dense.medianMs / point.total.medianMs).toFixed(2)}×, ${point.recall.toFixed(3)}`
  }
  const theirs = (backend, length) => {
    const found = pytorch.results.find((each) => each.backend === backend && each.length === length && each.causal)
    return found?.gpu ? ms(found.gpu) : '–'
  }
  const columns = ['tokens', ...methods, ...Object.values(backends)]
  return [
    `| ${columns.join(' | ')} |`,
    `| ${columns.map(() => '---:').join(' | ')} |`,
    ...lengths.map((length) => {
      const ours = methods.map((name) => cell(points.find(({ series: of, x }) => of === name && x === length)))
      return `| ${[length, ...ours, ...Object.keys(backends).map((backend) => theirs(backend, length))].join(' | ')} |`
    }),
    '',
    'Causal, 8 heads of 128, prompts with 32 bands of 32 keys that every query attends to. Methods: how many times as fast as',
    'dense here, planning included, and recall; budgets are `scaled`, XAttention has threshold 0.9 and stride 16.',
    '',
  ]
}

/** Dawn writes names small and with hyphens, and the driver into the description. */
function machine({ pytorch, adapter: { device, description } }) {
  const name = pytorch.device ?? (device ? device.replaceAll('-', ' ').toUpperCase() : description)
  return `${name}, driver ${pytorch.versions.driver ?? description}`
}

function summary(report, folder, page) {
  const { rows, series, pytorch, ceilings, versions, date, parts = [] } = report
  const wanted = rows.filter((row) => row.target)
  const met = wanted.filter((row) => row.met)
  const theirs = pytorch.versions
  const versionList = [
    ...Object.entries(versions).map(([name, version]) => `${name} ${version}`),
    ...['torch', 'cudnn'].flatMap((name) => (theirs[name] ? [`${name} ${theirs[name]}`] : [])),
  ]
  const tflops = (operations) => `${(operations / 1e12).toFixed(0)} TFLOPS`
  return [
    `${machine(report)}, ${date}; ${versionList.join(', ')}. ` +
      `**${met.length} of ${wanted.length} targets are met**, measured by ${parts.length > 1 ? `${parts.length} commands in a row` : 'one command'}. Ceilings of ${parts.length > 1 ? 'the last' : 'the same run'}: ` +
      `${(ceilings.bytesPerSecond / 1e12).toFixed(2)} TB/s copied, ${tflops(ceilings.f32OperationsPerSecond)} of f32` +
      `${ceilings.matrixOperationsPerSecond ? `, ${tflops(ceilings.matrixOperationsPerSecond)} of f16 matrices` : ''}. ` +
      `Every time with its spread, shape, roofline and error: ${page ? `[table.md](${folder}/table.md), ` : ''}[table.json](${folder}/table.json).`,
    '',
    '| what | target | measured | | ms | |',
    '| --- | ---: | ---: | --- | ---: | --- |',
    ...rows.map(line),
    '',
    ...methodTable({ series, pytorch }),
    ...(series.length === 0
      ? []
      : [
          `![Speed of each method against length](${folder}/speed-against-length.svg)`,
          '',
          `![Time of plans against their density](${folder}/time-against-density.svg)`,
        ]),
  ].join('\n')
}

const [folder] = process.argv.slice(2)
if (folder === undefined) {
  console.error('Usage: node scripts/bench/summary.mjs <folder with table.json>')
  process.exit(2)
}
const report = JSON.parse(await readFile(join(folder, 'table.json'), 'utf8'))
const table = summary(report, basename(folder), existsSync(join(folder, 'table.md')))
await writeBetween(join(dirname(folder), 'README.md'), begin, end, table)
