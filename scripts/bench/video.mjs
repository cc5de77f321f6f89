// Draws quality against density and against time from files that `bench video --out` wrote, and writes their tables into
// video.md beside the folder, between its two marks:
//
//   node scripts/bench/video.mjs docs/benchmarks/<folder> [video.json …]
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { init } from 'echarts'
import { writeBetween } from './between-marks.mjs'

const ink = '#1f2328'
const faint = '#d1d9e0'
const darkStyle = `<style>@media (prefers-color-scheme: dark){[fill="${ink}"]{fill:#e6edf3}[stroke="${faint}"]{stroke:#3d444d}}</style>`
const text = { color: ink, fontFamily: 'system-ui, sans-serif', fontSize: 13 }
const colors = {
  'lite-attention': '#0969da',
  'sparse-videogen': '#1a9a4b',
  'sparse-videogen-2': '#bf5af2',
  'dense and step cache': '#d4801f',
  'lite-attention and step cache': '#54aeff',
  'sparse-videogen-2 and step cache': '#d8a8f5',
}
const fallback = '#808890'
const begin = '<!-- tables: written by scripts/bench/video.mjs -->'
const end = '<!-- end of tables -->'

const series = ({ method, stepCache }) => (stepCache === null ? method : `${method} and step cache`)
/** What was chosen of a method: options that are not alike in all of its cases. */
function knobs(result, results) {
  const same = results.filter(({ method }) => method === result.method)
  const all = [...Object.keys(result.options)].filter(
    (name) => same.length > 1 && same.some((other) => other.options[name] !== result.options[name]),
  )
  const listed = all.map((name) => `${name} ${result.options[name]}`)
  return [...listed, ...(result.stepCache === null ? [] : [`step cache ${result.stepCache}`])].join(', ')
}

function draw({ title, subtitle, x, place, reports }) {
  const chart = init(null, null, { renderer: 'svg', ssr: true, width: 860, height: 480 })
  const lines = reports.flatMap((report) => {
    // What leaves nothing out is dense once more, and 100 dB would press all others together.
    const cases = report.results.slice(1).filter((result) => place(result) !== null && result.error > 0)
    const names = [...new Set(cases.map(series))]
    return names.map((name) => ({
      type: 'line',
      // Alike at every length: one entry of the legend.
      name,
      data: cases
        .filter((result) => series(result) === name)
        .sort((a, b) => a.psnr.mean - b.psnr.mean)
        .map((result) => [place(result), result.psnr.mean]),
      symbolSize: 8,
      itemStyle: { color: colors[name] ?? fallback },
      lineStyle: { width: 2, type: report === reports[0] ? 'solid' : 'dashed', color: colors[name] ?? fallback },
    }))
  })
  const axis = (rest) => ({
    type: 'value',
    nameLocation: 'middle',
    scale: true,
    nameTextStyle: text,
    axisLabel: text,
    axisLine: { lineStyle: { color: faint } },
    splitLine: { lineStyle: { color: faint } },
    ...rest,
  })
  chart.setOption({
    animation: false,
    textStyle: text,
    title: {
      text: title,
      subtext: subtitle,
      left: 16,
      top: 10,
      textStyle: { ...text, fontSize: 16 },
      subtextStyle: text,
    },
    legend: { bottom: 8, itemWidth: 28, itemGap: 16, textStyle: text },
    grid: { left: 70, right: 40, top: 76, bottom: 120 },
    xAxis: axis({ ...x, nameGap: 30 }),
    yAxis: axis({ name: 'PSNR to dense, dB', nameGap: 44 }),
    series: lines,
  })
  const svg = chart.renderToSVGString()
  chart.dispose()
  return `${svg.replace(/(<svg[^>]*>)/, `$1${darkStyle}`)}\n`
}

const decimals = (value, digits) => (value === null ? '–' : value.toFixed(digits))

function table(report) {
  const ratio = (value) => (value === null ? '–' : `${value.toFixed(2)}×`)
  const rows = report.results.map((result, i) => {
    const quality =
      i === 0
        ? ['', '', '']
        : [
            `${result.psnr.mean.toFixed(1)} ± ${result.psnr.spread.toFixed(1)}`,
            result.psnr.least.toFixed(1),
            result.ssim.mean.toFixed(3),
          ]
    const density = decimals(result.density, 3)
    const times = [
      decimals(result.totalMs, 0),
      ratio(result.speedUp),
      decimals(result.hostMs, 1),
      decimals(result.waitMs, 1),
    ]
    return `| ${[series(result), knobs(result, report.results), density, ...quality, decimals(result.evaluations, 0), ...times].join(' | ')} |`
  })
  return [
    `**${report.tokens} tokens** (${report.grid.join('×')}), ${report.steps} steps, guidance ${report.guidance}, ${report.seeds} videos of each, attention in ${report.dtype}:`,
    '',
    '| method | options | density | PSNR, dB | worst | SSIM | passes | video, ms | | host | wait |',
    '| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |',
    ...rows,
  ].join('\n')
}

const [folder, ...names] = process.argv.slice(2)
if (folder === undefined) {
  console.error('Usage: node scripts/bench/video.mjs <folder with video.json> [other files of it]')
  process.exit(2)
}
const files = names.length > 0 ? names : ['video.json']
const reports = await Promise.all(files.map(async (name) => JSON.parse(await readFile(join(folder, name), 'utf8'))))
const { adapter, date, steps } = reports[0]
/** How lines are drawn, where there are several, and what of. */
const subtitle = (drawn) => {
  const lengths = drawn.map(
    ({ tokens }, i) => `${tokens} tokens${drawn.length > 1 ? [' solid', ' dashed'][Math.min(i, 1)] : ''}`,
  )
  return `${lengths.join(', ')}; ${reports[0].seeds} videos of each, ${steps} steps; ${adapter.description || adapter.vendor}, ${date}`
}
const charts = {
  'quality-against-density': draw({
    title: 'Quality against density',
    subtitle: subtitle(reports),
    reports,
    x: { name: 'density: share of pairs that is computed' },
    place: ({ density }) => density,
  }),
  // Of the first file alone, the longest videos: what bounds shorter ones is the host.
  'quality-against-time': draw({
    title: 'Quality against speed-up of the whole video',
    subtitle: subtitle(reports.slice(0, 1)),
    reports: reports.slice(0, 1),
    x: { name: 'dense time ÷ time' },
    place: ({ speedUp }) => speedUp,
  }),
}
const timed = reports[0].results.some(({ speedUp }) => speedUp !== null)
for (const [name, svg] of Object.entries(charts)) {
  if (name === 'quality-against-time' && !timed) continue
  await writeFile(join(folder, `${name}.svg`), svg)
  console.log(join(folder, `${name}.svg`))
}
await writeBetween(join(folder, '..', 'video.md'), begin, end, reports.map(table).join('\n\n'))
