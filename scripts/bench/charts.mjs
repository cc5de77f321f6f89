// Draws the charts of a folder of docs/benchmarks from what is there of table.json, decode.json and generate.json, as `bench table`,
// `bench decode` and `bench generate` wrote them:
//
//   pnpm charts docs/benchmarks/<folder>
//
// Colours are chosen for white; a style sheet inside the files changes ink and grid where the reader prefers dark.
import { existsSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { init } from 'echarts'

const size = { width: 860, height: 500 }
const ink = '#1f2328'
const faint = '#d1d9e0'
const darkStyle = `<style>@media (prefers-color-scheme: dark){[fill="${ink}"]{fill:#e6edf3}[stroke="${faint}"]{stroke:#3d444d}[stroke="${ink}"]{stroke:#e6edf3}}</style>`

/** Mid-tone colours that stand out from white and from black. */
const colors = {
  dense: '#0969da',
  xattention: '#bf5af2',
  'minference-vertical-slash': '#1a9a4b',
  'minference-block-sparse': '#d4801f',
  'a-shape': '#9a6a4f',
  'PyTorch cuDNN, dense': '#808890',
  'PyTorch FlashAttention-2, dense': '#808890',
  'blocks of 128': '#0969da',
  'blocks of 64': '#bf5af2',
  'single columns': '#1a9a4b',
  quest: '#bf5af2',
  'quest, n/16': '#bf5af2',
  'quest, 2048': '#8b3fb8',
  twilight: '#1a9a4b',
  'twilight, n/4': '#1a9a4b',
  'twilight, 8192': '#d4801f',
  'sink-window': '#9a6a4f',
  ideal: '#808890',
}
const dashes = { 'PyTorch FlashAttention-2, dense': 'dotted', 'PyTorch cuDNN, dense': 'dashed', ideal: 'dashed' }

const text = { color: ink, fontFamily: 'system-ui, sans-serif', fontSize: 13 }

function draw({ title, subtitle, x, y, lines }) {
  const chart = init(null, null, { renderer: 'svg', ssr: true, ...size })
  const axis = ({ name, nameGap, format, ...rest }) => ({
    ...rest,
    name,
    nameGap,
    nameLocation: 'middle',
    nameTextStyle: text,
    axisLabel: { ...text, formatter: format },
    axisLine: { lineStyle: { color: faint } },
    axisTick: { lineStyle: { color: faint } },
    splitLine: { lineStyle: { color: faint } },
    minorTick: { show: false },
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
      subtextStyle: { ...text, fontSize: 12 },
    },
    // Without a browser the width of text is a guess, and too small: hence the gap.
    legend: { bottom: 8, itemWidth: 28, itemGap: 32, textStyle: text },
    grid: { left: 76, right: 40, top: 76, bottom: 124 },
    xAxis: axis({ ...x, nameGap: 30 }),
    yAxis: axis({ ...y, nameGap: 52 }),
    series: lines.map(({ name, points }) => ({
      type: 'line',
      name,
      data: points,
      symbol: name === 'ideal' ? 'none' : 'circle',
      symbolSize: 6,
      itemStyle: { color: colors[name] },
      lineStyle: { width: 2, type: dashes[name] ?? 'solid', color: colors[name] },
    })),
  })
  const svg = chart.renderToSVGString()
  chart.dispose()
  return `${svg.replace(/(<svg[^>]*>)/, `$1${darkStyle}`)}\n`
}

/** Dawn writes names small and with hyphens. */
const machineOf = ({ adapter: { device, description }, date }) =>
  `${device ? device.replaceAll('-', ' ').toUpperCase() : description}, ${date}`

const operations = (length, headDim, heads) => 2 * headDim * heads * length * (length + 1)
const inK = (tokens) => (tokens >= 1024 ? `${tokens / 1024}k` : String(tokens))

/** Groups points that were measured by their series, in order. */
function linesOf(points, place) {
  const lines = new Map()
  for (const point of points) {
    if (point.status !== 'measured') continue
    if (!lines.has(point.series)) lines.set(point.series, { name: point.series, points: [] })
    lines.get(point.series).points.push(place(point))
  }
  return [...lines.values()]
}

function speedAgainstLength({ series, pytorch }, machine) {
  // As fast as dense attention would have to be: sparse methods leave work out, and may be above what the device can do.
  const speed = (length, ms) => operations(length, 128, 8) / ms / 1e9
  const ours = linesOf(
    series.filter(({ chart }) => chart === 'length'),
    ({ x, total }) => [x, speed(x, total.medianMs)],
  )
  const backends = { cudnn: 'PyTorch cuDNN, dense', 'flash-attention': 'PyTorch FlashAttention-2, dense' }
  const theirs = Object.entries(backends).map(([backend, name]) => ({
    name,
    points: pytorch.results
      .filter((result) => result.backend === backend && result.causal && result.gpu)
      .map(({ length, gpu }) => [length, speed(length, gpu.medianMs)]),
  }))
  return draw({
    title: 'Speed against length: operations of dense attention ÷ time, planning included',
    subtitle: `causal, 8 heads of 128, f16, prompts with planted bands; ${machine}`,
    x: { type: 'log', logBase: 2, name: 'tokens', format: inK, min: 1024, max: 131072 },
    y: { type: 'log', logBase: 10, name: 'TFLOPS of dense attention', format: String, min: 10 },
    lines: [...ours, ...theirs.filter(({ points }) => points.length > 0)],
  })
}

function timeAgainstDensity({ series }, machine) {
  const points = series.filter(({ chart, status }) => chart === 'density' && status === 'measured')
  const denseMs = points.map(({ dense }) => dense.medianMs).sort((a, b) => a - b)[points.length >> 1]
  return draw({
    title: 'Time against density',
    subtitle: `32768 tokens, not causal, 8 heads of 128, f16, random plans; ideal: dense × density; ${machine}`,
    x: { type: 'value', name: 'density: share of pairs that the plan keeps', min: 0, max: 1, format: String },
    y: { type: 'value', name: 'milliseconds', format: String },
    lines: [
      ...linesOf(points, ({ density, total }) => [density, total.medianMs]),
      { name: 'ideal', points: [0, 1].map((density) => [density, density * denseMs]) },
    ],
  })
}

/** Of one token after so many, four query heads a KV head. */
function decodeAgainstLength({ results, kvHeads, headDim, pageSize, ...run }) {
  const chosen = results.filter(({ batch, group }) => batch === 1 && group === 4)
  const lengths = [...new Set(chosen.map(({ keys }) => keys))]
  /** Budgets are numbers or shares of the keys; where both are the same, the figure is of both lines. */
  const names = ({ method, options: { tokenBudget }, keys }) =>
    tokenBudget === undefined
      ? [method]
      : [`${method}, n/${Math.round(keys / tokenBudget)}`, `${method}, ${tokenBudget}`]
  const isAtEveryLength = (name) =>
    lengths.every((length) => chosen.some((result) => result.keys === length && names(result).includes(name)))
  const series = [...new Set(chosen.flatMap(names))].filter(isAtEveryLength)
  const points = series
    .flatMap((name) =>
      lengths.map((length) => {
        const point = chosen.find((result) => result.keys === length && names(result).includes(name))
        return { ...point, series: name }
      }),
    )
    .filter(({ status }) => status === 'timed')
    .map((point) => ({ ...point, status: 'measured' }))
  return draw({
    title: 'One token: time of attention against the tokens before it, planning included',
    subtitle: `${4 * kvHeads} query and ${kvHeads} KV heads of ${headDim}, f16, pages of ${pageSize}; ${machineOf(run)}`,
    x: { type: 'log', logBase: 2, name: 'tokens before', format: inK, min: 8192, max: 524288 },
    y: { type: 'log', logBase: 10, name: 'microseconds', format: String, min: 10 },
    lines: linesOf(points, ({ keys, total }) => [keys, 1000 * total.medianMs]),
  })
}

/** What is left of dense decoding against what is kept: points of a method from its least to its most. */
function agreementAgainstDensity({ results, model, length, tokens, ...run }) {
  const measured = results.filter(({ method, agreement }) => method !== 'dense' && agreement.length > 0)
  const points = measured
    .sort((a, b) => a.density - b.density)
    .map((point) => ({ ...point, status: 'measured', series: point.method }))
  const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length
  return draw({
    title: 'Agreement with dense decoding against density',
    subtitle: `${model}, ${tokens} tokens after ${length}, greedy; ${machineOf(run)}`,
    x: { type: 'value', name: 'density of a step, over all layers', min: 0, format: String },
    y: { type: 'value', name: 'share of the dense text', max: 1, scale: true, format: String },
    lines: linesOf(points, ({ density, agreement }) => [density, mean(agreement)]),
  })
}

const [folder] = process.argv.slice(2)
if (folder === undefined) {
  console.error('Usage: node scripts/bench/charts.mjs <folder with table.json, decode.json or generate.json>')
  process.exit(2)
}
const charts = [
  ['table.json', 'speed-against-length', (table) => speedAgainstLength(table, machineOf(table))],
  ['table.json', 'time-against-density', (table) => timeAgainstDensity(table, machineOf(table))],
  ['decode.json', 'decode-against-length', decodeAgainstLength],
  ['generate.json', 'agreement-against-density', agreementAgainstDensity],
]
for (const [source, name, chart] of charts) {
  if (!existsSync(join(folder, source))) continue
  const file = join(folder, `${name}.svg`)
  await writeFile(file, chart(JSON.parse(await readFile(join(folder, source), 'utf8'))))
  console.log(file)
}
