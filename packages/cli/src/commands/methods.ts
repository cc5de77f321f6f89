import { registry } from '@sparse-attention/compare'
import type { OptionSpec } from '@sparse-attention/core'
import { Command } from 'commander'
import type { Output } from '../terminal.js'

/** What `methods --json` prints. */
export interface MethodsReport {
  readonly methods: readonly MethodReport[]
}

export interface MethodReport {
  readonly id: string
  readonly phase: string
  readonly title: string
  readonly summary: string
  readonly citation: {
    readonly title: string
    readonly authors: string
    readonly year: number
    readonly arxiv: string | null
    readonly url: string
  }
  /** As the method declares them: type, default, range or choices, description. */
  readonly options: Readonly<Record<string, OptionSpec>>
}

export function methodsCommand(output: (json: boolean) => Output): Command {
  return new Command('methods')
    .description('list the methods with their options and papers')
    .option('--json', 'print one JSON object')
    .action(({ json = false }: { json?: boolean }) => {
      const report = describeMethods()
      output(json).result(report, formatMethods(report))
    })
}

export function describeMethods(): MethodsReport {
  return {
    methods: registry.map(({ definition: { id, phase, title, summary, citation, options } }) => ({
      id,
      phase,
      title,
      summary,
      citation: {
        title: citation.title,
        authors: citation.authors,
        year: citation.year,
        arxiv: citation.arxiv ?? null,
        url: citation.url,
      },
      options,
    })),
  }
}

function formatMethods({ methods }: MethodsReport): string {
  const blocks = methods.map(({ id, phase, title, summary, citation, options }) => {
    const lines = [`${id}  (${phase === 'any' ? 'any phase' : phase})  ${title}`, `  ${summary}`]
    lines.push(`  ${citation.authors} ${citation.year}: ${citation.title}. ${citation.url}`)
    for (const [name, spec] of Object.entries(options)) {
      lines.push(`  --option ${name}=${spec.default}  ${range(spec)}. ${spec.description}`)
    }
    return lines.join('\n')
  })
  return blocks.join('\n\n')
}

function range(spec: OptionSpec): string {
  if (spec.type === 'choice') return `one of ${spec.choices.join(', ')}`
  const { min = Number.NEGATIVE_INFINITY, max = Number.POSITIVE_INFINITY } = spec
  const kind = spec.type === 'number' && spec.integer === true ? 'integer' : 'number'
  const limits = [
    ...(Number.isFinite(min) ? [`from ${min}`] : []),
    ...(Number.isFinite(max) ? [`${Number.isFinite(min) ? '' : 'up '}to ${max}`] : []),
  ]
  return [
    kind,
    ...limits,
    ...(spec.type === 'per-head' ? ['or a table [layer][head]'] : []),
    ...(spec.type === 'per-step' ? ['or a table [layer][step]'] : []),
  ].join(' ')
}
