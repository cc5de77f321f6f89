// `pnpm release --dry-run` shows the next release: versions, what changelogs will say, and that every package can be published.
// `pnpm release` publishes what `pnpm changeset version` has made; the release workflow calls it. Both build and check first.

import { spawnSync } from 'node:child_process'
import getReleasePlan from '@changesets/get-release-plan'
import { publicPackages, root } from './workspace.mjs'

const unknown = process.argv.slice(2).filter((argument) => argument !== '--dry-run')
if (unknown.length > 0) {
  console.error(`Unknown: ${unknown.join(' ')}. The one option is --dry-run.`)
  process.exit(2)
}
const dryRun = process.argv.includes('--dry-run')

const { changesets, releases } = await (getReleasePlan.default ?? getReleasePlan)(root)
const packages = await publicPackages()
const next = new Map(releases.map(({ name, newVersion }) => [name, newVersion]))

if (!dryRun && changesets.length > 0) {
  console.error(
    `${changesets.length} changesets have no version yet. Run \`pnpm changeset version\` and commit what it writes.`,
  )
  process.exit(1)
}

if (dryRun) {
  for (const { manifest } of packages) {
    console.log(`${manifest.name.padEnd(32)}${manifest.version} → ${next.get(manifest.name) ?? manifest.version}`)
  }
  console.log(`\n${changesets.length} changesets for the changelogs:\n`)
  for (const { summary } of changesets) console.log(`- ${summary.replaceAll('\n', '\n  ')}`)
  console.log()
}

const steps = dryRun
  ? ['run build', 'run packages', 'exec vitest run --project node scripts/release']
  : ['run build', 'run packages', 'exec changeset publish']
for (const step of steps) {
  console.log(`pnpm ${step}`)
  const running = process.env.npm_execpath
  const viaPnpm = running?.includes('pnpm') && /\.[cm]?js$/.test(running)
  const [file, args] = viaPnpm ? [process.execPath, [running]] : ['pnpm', []]
  const { status } = spawnSync(file, [...args, ...step.split(' ')], { cwd: root, stdio: 'inherit' })
  if (status !== 0) process.exit(status ?? 1)
}
if (dryRun) console.log('Nothing was published.')
