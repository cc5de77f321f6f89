import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import type { Command } from 'commander'
import { describe, expect, it } from 'vitest'
import { createProgram } from './program.js'

const page = readFileSync(join(import.meta.dirname, '../../../docs/cli.md'), 'utf8')

/** Arguments and flags in the first cells of the tables of a section of docs/cli.md. */
function documented(verb: string): string[] {
  const section = page.split(/^## /m).find((text) => text.startsWith(`${verb}\n`)) ?? ''
  const cells = [...section.matchAll(/^\| (`(?:--|<|\[)[^|]*)/gm)].map(([, cell]) => cell!)
  return cells.flatMap((cell) => [...cell.matchAll(/`(--[a-z-]+|<\w+>|\[\w+\])/g)].map(([, name]) => name!))
}

/** Those that the verb takes. Every verb takes `--json`, which the page says once. */
function taken(command: Command): string[] {
  const names = command.registeredArguments.map((argument) =>
    argument.required ? `<${argument.name()}>` : `[${argument.name()}]`,
  )
  const shown = command.options.filter(({ hidden, long }) => !hidden && long !== '--json')
  return [...names, ...shown.map(({ long }) => long!)]
}

/** Of the commands that do something: all but `demo`. */
function verbs(command: Command, above: readonly string[] = []): [verb: string, command: Command][] {
  return command.commands.flatMap((each): [string, Command][] => {
    const path = [...above, each.name()]
    return each.name() === 'demo' ? verbs(each, path) : [[path.join(' '), each], ...verbs(each, path)]
  })
}

const terminal = { stdout: new PassThrough(), stderr: new PassThrough(), signal: new AbortController().signal }

describe.each(verbs(createProgram(terminal)))('%s', (verb, command) => {
  it('is in docs/cli.md with each of its arguments and no other', () => {
    expect(documented(verb).sort()).toEqual(taken(command).sort())
    expect(page).toContain(`| [\`${verb}\`](#${verb.replaceAll(' ', '-')})`)
  })

  it('takes --json', () => {
    expect(command.options.some(({ long }) => long === '--json')).toBe(true)
  })

  it('shows default values in its help as one types them', () => {
    expect(command.helpInformation()).not.toMatch(/default:\s+\[/)
  })
})
