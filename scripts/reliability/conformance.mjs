// The conformance suite of every method on every tier that the adapter offers, for a machine with a GPU and many cores:
//
//   pnpm test:conformance [--methods quest,twilight] [--tiers f16] [--workers 14] [--stop-after 540] [--out folder]
//
// A method's cases on a tier are a unit, its properties and fuzz another; each runs in a process of its own, the longest first, so
// that one lost device takes nothing else along. The folder (default .conformance) keeps what a unit gave: started again,
// only units that failed or did not end run. It also gets conformance.json and conformance.md, the counts of all.
// SPARSE_ATTENTION_ADAPTER=hardware refuses a software adapter. Exit code 1: something failed or did not run.
import { spawn } from 'node:child_process'
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { availableParallelism } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { parseArgs } from 'node:util'

const root = join(import.meta.dirname, '..', '..')
const vitest = join(dirname(createRequire(import.meta.url).resolve('vitest/package.json')), 'vitest.mjs')

/** Where each method's suite is, those that take longest first. */
const files = {
  'lite-attention': 'packages/diffusion/src/methods.gpu.test.ts',
  'sparse-videogen-2': 'packages/diffusion/src/methods.gpu.test.ts',
  'sparse-videogen': 'packages/diffusion/src/methods.gpu.test.ts',
  twilight: 'packages/decode/src/methods.gpu.test.ts',
  quest: 'packages/decode/src/methods.gpu.test.ts',
  xattention: 'packages/prefill/src/xattention/xattention.gpu.test.ts',
  'minference-vertical-slash': 'packages/prefill/src/minference-vertical-slash/minference-vertical-slash.gpu.test.ts',
  'minference-block-sparse': 'packages/prefill/src/minference-block-sparse/minference-block-sparse.gpu.test.ts',
  'sink-window': 'packages/decode/src/methods.gpu.test.ts',
  'a-shape': 'packages/prefill/src/a-shape/a-shape.gpu.test.ts',
  dense: 'kernels/src/dense/dense.gpu.test.ts',
  'bilevel-routing': 'packages/vision/src/methods.gpu.test.ts',
  'shifted-windows': 'packages/vision/src/methods.gpu.test.ts',
}
/** Parts of a suite on one tier, by the second part of their names. */
const parts = { cases: 'case', rules: '(property|fuzz)' }

function listed(name, text, known) {
  const list = text === undefined ? known : text.split(',')
  const unknown = list.find((item) => !known.includes(item))
  if (unknown === undefined) return list
  console.error(`--${name} ${unknown}: not one of ${known.join(', ')}.`)
  process.exit(2)
}

function positive(name, text, usual) {
  const value = text === undefined ? usual : Number(text)
  if (value > 0) return value
  console.error(`--${name} ${text}: a number above 0, please.`)
  process.exit(2)
}

const string = { type: 'string' }
const { values } = parseArgs({
  args: process.argv.slice(2).filter((arg) => arg !== '--'),
  options: { methods: string, tiers: string, workers: string, 'stop-after': string, out: string },
})
const out = resolve(values.out ?? join(root, '.conformance'))
const workers = positive('workers', values.workers, Math.max(1, availableParallelism() - 2))
const methods = listed('methods', values.methods, Object.keys(files))
const start = performance.now()
const end = start + 1000 * positive('stop-after', values['stop-after'], Number.POSITIVE_INFINITY)
await mkdir(out, { recursive: true })

/** Runs vitest until it ends or the time is up; true: it ended. */
function run(args, env = {}) {
  const left = end - performance.now()
  if (left <= 0) return false
  const all = ['run', '--config', join(import.meta.dirname, 'conformance.config.ts'), '--maxWorkers=1', ...args]
  const child = spawn(process.execPath, [vitest, ...all], {
    cwd: root,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'ignore', 'pipe'],
    detached: process.platform !== 'win32',
  })
  let errors = ''
  child.stderr.on('data', (chunk) => {
    errors = (errors + chunk).slice(-4000)
  })
  return new Promise((done) => {
    let stopped = false
    // With its workers, which would go on.
    const stop = () => {
      stopped = true
      if (process.platform === 'win32') child.kill()
      else process.kill(-child.pid, 'SIGKILL')
    }
    const timer = Number.isFinite(left) ? setTimeout(stop, left) : undefined
    process.once('exit', stop)
    child.once('close', (code) => {
      clearTimeout(timer)
      process.off('exit', stop)
      if (code !== 0 && !stopped && errors !== '') console.error(errors.trim())
      done(!stopped)
    })
  })
}
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(130))

const json = async (path) => JSON.parse(await readFile(path, 'utf8').catch(() => 'null'))

const told = join(out, 'adapter.json')
await rm(told, { force: true })
await run(['scripts/reliability/tell-adapter.ts'], { SPARSE_ATTENTION_ADAPTER_REPORT: told })
const answer = await json(told)
if (answer === null) {
  console.error('No adapter answered. With SPARSE_ATTENTION_ADAPTER=hardware a software adapter does not count.')
  process.exit(1)
}
const { report: machine } = answer
const unlisted = answer.methods.filter((method) => files[method] === undefined)
if (unlisted.length > 0) {
  console.error(`Where the suite of ${unlisted.join(' and ')} is must be said in ${import.meta.filename}.`)
  process.exit(1)
}
const tiers = listed('tiers', values.tiers, machine.tiers)

const units = methods.flatMap((method) => {
  return tiers.flatMap((tier) => Object.keys(parts).map((part) => ({ method, tier, part })))
})
const nameOf = ({ method, tier, part }) => `${method}-${tier}-${part}`
const pathOf = (unit) => join(out, `${nameOf(unit)}.json`)
const whole = (report) => report !== null && report.failed === 0 && report.passed > 0

async function runUnit(unit) {
  const { method, tier, part } = unit
  const raw = `${pathOf(unit)}.part`
  await rm(raw, { force: true })
  const begin = performance.now()
  const name = `^${method} tier ${tier} ${parts[part]} `
  const ended = await run([files[method], '-t', name, '--reporter=json', `--outputFile=${raw}`])
  const seconds = Math.round((performance.now() - begin) / 100) / 10
  const report = await json(raw)
  await rm(raw, { force: true })
  if (report === null) {
    console.log(`${nameOf(unit)}: ${ended ? 'ended without a report' : 'the time was up'} after ${seconds} s`)
    return
  }
  const cases = report.testResults.flatMap(({ assertionResults }) => assertionResults)
  const failures = cases
    .filter(({ status }) => status === 'failed')
    .map(({ fullName, failureMessages }) => ({ name: fullName, message: failureMessages[0]?.split('\n', 1)[0] ?? '' }))
  const passed = cases.filter(({ status }) => status === 'passed')
  const slowest = passed.reduce((most, one) => (one.duration > (most?.duration ?? 0) ? one : most), undefined)
  const counts = { ...unit, passed: passed.length, failed: failures.length, seconds, failures }
  const kept = { ...counts, extremes: passed.filter(({ fullName }) => fullName.includes('f16-extremes')).length }
  await writeFile(raw, JSON.stringify({ ...kept, slowest: slowest && [slowest.fullName, slowest.duration / 1000] }))
  await rename(raw, pathOf(unit))
  console.log(`${nameOf(unit)}: ${passed.length} passed, ${failures.length} failed in ${seconds} s`)
  for (const failure of failures) console.log(`  ${failure.name}\n    ${failure.message}`)
}

const reports = await Promise.all(units.map(async (unit) => json(pathOf(unit))))
const waiting = units.filter((_, i) => !whole(reports[i]))
console.log(`${machine.adapter.description}: ${waiting.length} of ${units.length} units to run, ${workers} at a time`)
await Promise.all(
  Array.from({ length: workers }, async () => {
    while (performance.now() < end) {
      const unit = waiting.shift()
      if (unit === undefined) return
      await runUnit(unit)
    }
  }),
)

const results = await Promise.all(units.map(async (unit) => (await json(pathOf(unit))) ?? { ...unit, passed: null }))
const sum = (list, field) => list.reduce((total, result) => total + (result[field] ?? 0), 0)
const missing = results.filter(({ passed }) => passed === null).map(nameOf)
const summary = {
  date: new Date().toISOString().slice(0, 10),
  ...machine,
  ...{ passed: sum(results, 'passed'), failed: sum(results, 'failed'), extremes: sum(results, 'extremes') },
  missing,
  units: results.filter(({ passed }) => passed !== null),
}
const cell = (method, tier) => {
  const own = results.filter((result) => result.method === method && result.tier === tier)
  const failed = sum(own, 'failed')
  const left = own.filter(({ passed }) => passed === null).map(({ part }) => `${part} not run`)
  return [`${sum(own, 'passed')}`, ...(failed > 0 ? [`**${failed} failed**`] : []), ...left].join(', ')
}
const rows = methods.map((method) => `| ${[method, ...tiers.map((tier) => cell(method, tier))].join(' | ')} |`)
const table = [`| | ${tiers.join(' | ')} |`, `| --- |${tiers.map(() => ' ---: |').join('')}`, ...rows].join('\n')
const lines = `${summary.passed} passed, ${summary.failed} failed, ${missing.length} units not run; ${summary.extremes} cases of f16 extremes`
await writeFile(join(out, 'conformance.json'), `${JSON.stringify(summary, null, 1)}\n`)
await writeFile(join(out, 'conformance.md'), `${summary.adapter.description}, ${summary.date}: ${lines}.\n\n${table}\n`)
console.log(`${lines}, in ${Math.round((performance.now() - start) / 1000)} s\n${join(out, 'conformance.md')}`)
process.exit(summary.failed > 0 || missing.length > 0 ? 1 : 0)
