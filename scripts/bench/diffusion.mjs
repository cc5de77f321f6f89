// Writes the tables of diffusion.md beside a folder, between its two marks, from all of the folder's files diffusion-*.json, which
// `bench diffusion --out` made. Dense attention is of the first of them; every other row is against the dense row of its own file.
//
//   node scripts/bench/diffusion.mjs docs/benchmarks/<folder>
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { writeBetween } from './between-marks.mjs'

const begin = '<!-- tables: written by scripts/bench/diffusion.mjs -->'
const end = '<!-- end of tables -->'
const shapes = { 'wan-480p': 'Wan 2.1, 480p', 'hunyuan-720p': 'HunyuanVideo, 720p' }
/** In the order of the rows: what a method is called, and what was chosen of it. */
const methods = {
  dense: () => 'dense',
  'lite-attention': ({ threshold }) => `LiteAttention, ${String(threshold).replace('-', '−')}`,
  'sparse-videogen': ({ density, profileFrames }) =>
    `Sparse VideoGen, ${density}${profileFrames === 2 ? '' : `, profile of ${profileFrames} frames`}`,
  'sparse-videogen-2': ({ queryClusters, keyClusters }) =>
    `Sparse VideoGen2, ${queryClusters} and ${keyClusters} clusters`,
}

const [folder] = process.argv.slice(2)
if (folder === undefined) {
  console.error('Usage: node scripts/bench/diffusion.mjs <folder with diffusion-*.json>')
  process.exit(2)
}
const stem = (name) => name.replace('.json', '')
const names = (await readdir(folder)).filter((name) => /^diffusion-.*\.json$/.test(name))
names.sort((a, b) => (stem(a) < stem(b) ? -1 : 1))
const reports = await Promise.all(names.map(async (name) => JSON.parse(await readFile(join(folder, name), 'utf8'))))

const digits = (value, n) => Number(value.toPrecision(n)).toString()
const ms = (value) => `${value < 100 ? value.toFixed(1) : value.toFixed(0)} ms`
const tflops = ({ operations, attend }) => `${(operations / attend.medianMs / 1e9).toFixed(0)} TFLOPS`

function row(result) {
  const { method, options, total, firstMs, attend, planningShare, speedUp, density, recall, relativeError } = result
  const cells = [methods[method](options), ms(total.medianMs), ms(firstMs)]
  if (method === 'dense') cells.push(tflops(result), '', '1', '1', '1', '', '')
  else {
    const state = result.stateBytes === 0 ? '–' : `${(result.stateBytes / 1e6).toFixed(2)} MB`
    const against = `${speedUp.toFixed(2)}×`
    cells.push(`${ms(attend.medianMs)}, ${tflops(result)}`, `${(100 * planningShare).toFixed(0)} %`)
    cells.push(speedUp < 1 ? `**${against}**` : against, density.toFixed(3), recall.toFixed(3))
    cells.push(digits(relativeError, 2), state)
  }
  return `| ${cells.join(' | ')} |`
}

function table([name, title]) {
  const of = reports.filter(({ shapes: [shape] }) => shape.name === name)
  const { grid, tokens, heads, headDim } = of[0].shapes[0]
  const timed = of.flatMap(({ results }, i) =>
    results.filter((r) => r.status === 'timed' && (i === 0 || r.method !== 'dense')),
  )
  const rows = Object.keys(methods).flatMap((method) => timed.filter((result) => result.method === method).map(row))
  const steps = [...new Set(of.map((report) => report.steps))].join(' or ')
  const number = tokens
    .toString()
    .replace(/(?=(\d{3})+$)/g, ' ')
    .trim()
  return [
    `**${title}**: ${grid.join(' × ')} = ${number} tokens, all ${heads} heads of ${headDim} at once, ${steps} steps.`,
    '',
    '| | a step | first step | attend | planning | against dense | density | recall | error | state |',
    '| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |',
    ...rows,
  ].join('\n')
}

await writeBetween(join(folder, '..', 'diffusion.md'), begin, end, Object.entries(shapes).map(table).join('\n\n'))
