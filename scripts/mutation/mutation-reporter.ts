import { writeFileSync } from 'node:fs'
import type { Reporter, TestModule, Vitest } from 'vitest/node'
import type { Mutation, Outcome } from './mutation.js'
import { mutations } from './mutations/index.js'

/** Prints what became of each mutation, and writes it down when none was left out. */
export class MutationReporter implements Reporter {
  #vitest: Vitest | undefined

  constructor(private readonly path: string) {}

  onInit(vitest: Vitest): void {
    this.#vitest = vitest
  }

  onTestRunEnd(modules: readonly TestModule[]): void {
    const outcomes = new Map<string, Outcome>()
    for (const module of modules) {
      for (const test of module.children.allTests()) {
        const { mutation, outcome } = test.meta() as { mutation?: Mutation; outcome?: Outcome }
        if (mutation && outcome) outcomes.set(mutation.id, outcome)
      }
    }
    const { logger } = this.#vitest!
    for (const [id, { verdict, by, message, seconds }] of outcomes) {
      logger.log(`  ${verdict.padEnd(8)}  ${seconds.toFixed(1).padStart(5)} s  ${id.padEnd(28)}  ${by}`)
      if (verdict !== 'caught' && message) logger.log(`    ${message}`)
    }
    const all = Object.values(mutations).flat()
    const caught = [...outcomes.values()].filter(({ verdict }) => verdict === 'caught').length
    logger.log(`  ${caught} of ${outcomes.size} mutations caught`)
    if (outcomes.size < all.length) return
    writeFileSync(this.path, page(outcomes))
    logger.log(`  written: ${this.path}`)
  }
}

function page(outcomes: ReadonlyMap<string, Outcome>): string {
  const all = Object.values(mutations).flat()
  const caught = all.filter(({ id }) => outcomes.get(id)!.verdict === 'caught').length
  const sections = Object.entries(mutations).map(([subject, list]) => {
    const rows = list.map(({ id, mistake, file, caughtBy }) => {
      const { verdict, by } = outcomes.get(id)!
      const result = verdict === 'caught' ? `[${cell(by)}](../${caughtBy.file})` : `**${verdict}**`
      return `| \`${id}\` | ${cell(mistake)} | [${file.replace(/^.*src\//, '')}](../${file}) | ${result} |`
    })
    return `## ${subject}\n\n| Mutation | Mistake | In | Caught by |\n| --- | --- | --- | --- |\n${rows.join('\n')}\n`
  })
  return `# Mutations

Mistakes made on purpose, one at a time, in kernels, selections, methods and the runtime, and the case that notices each.
**${caught} of ${all.length} are caught.** Written by \`pnpm test:mutation\`; the list is [scripts/mutation/mutations](../scripts/mutation/mutations).

A mutation counts as caught when a check of a test fails: not when a shader does not compile, a test takes too long or a
device is lost. The tests named pass without it.

${sections.join('\n')}`
}

function cell(text: string): string {
  return text.replace(/[|\\[\]]/g, '\\$&').replaceAll('\n', ' ')
}
