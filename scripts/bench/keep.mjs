// Keeps a file that a command of this repository wrote beside the pages that quote it: numbers to six digits, a line for each field and
// each element, and of the folder that the command wrote into the name alone.
//
//   node scripts/bench/keep.mjs results/diffusion.json docs/benchmarks/<folder>/diffusion-wan.json
import { readFile, writeFile } from 'node:fs/promises'

const [from, to] = process.argv.slice(2)
if (to === undefined) {
  console.error('Usage: node scripts/bench/keep.mjs <file that was written> <file to keep>')
  process.exit(2)
}

/** Counts are whole and stay whole. */
const short = (_, value) =>
  typeof value === 'number' && !Number.isInteger(value) ? Number(value.toPrecision(6)) : value

function field(value) {
  const items = Array.isArray(value) && value.some((item) => typeof item === 'object' && item !== null)
  return items ? `[\n${value.map((item) => JSON.stringify(item)).join(',\n')}\n]` : JSON.stringify(value)
}

const report = JSON.parse(await readFile(from, 'utf8'), short)
for (const run of [report, ...(report.parts ?? [])]) {
  if (run.command)
    run.command = run.command.replace(/ --out \S+/, (out) => ` --out results/${out.split('/').at(-1).trim()}`)
}
if (report.written) report.written = report.written.map((path) => `results/${path.split('/').slice(-2).join('/')}`)
const fields = Object.entries(report).map(([name, value]) => `${JSON.stringify(name)}: ${field(value)}`)
await writeFile(to, `{\n${fields.join(',\n')}\n}\n`)
console.log(to)
