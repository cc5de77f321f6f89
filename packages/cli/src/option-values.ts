import { readFile } from 'node:fs/promises'
import {
  type MethodDefinition,
  type MethodOptions,
  type OptionSpec,
  type OptionValue,
  SparseAttentionError,
} from '@sparse-attention/core'

/**
 * Parses `name=value` pairs by what the method says about its options: a number, one of several choices, or for options
 * that may differ by head also a table [layer][head], as JSON or as `@file.json`. Ranges are the method's own check.
 *
 * @param prefix stands before an option's name on the command line, so errors write it too
 * @throws INVALID_OPTION, INVALID_FILE
 */
export async function parseOptions(
  { id, options }: Pick<MethodDefinition<MethodOptions>, 'id' | 'options'>,
  pairs: readonly string[],
  prefix = '',
): Promise<Record<string, OptionValue>> {
  const values: Record<string, OptionValue> = {}
  for (const pair of pairs) {
    const split = pair.indexOf('=')
    const name = split < 0 ? pair : pair.slice(0, split)
    const spec: OptionSpec | undefined = Object.hasOwn(options, name) ? options[name] : undefined
    if (!spec) {
      const known = Object.keys(options)
      throw invalidOption(
        name,
        `${id} has no option '${name}'.`,
        known.length > 0 ? `Its options are ${known.join(', ')}.` : 'It takes no options.',
      )
    }
    const label = `${prefix}${name}`
    if (split < 0) throw invalidOption(label, `Option '${label}' has no value.`, `Write ${label}=${spec.default}.`)
    if (Object.hasOwn(values, name)) throw invalidOption(label, `Option '${label}' is given twice.`, 'Give it once.')
    values[name] = await parseValue(label, spec, pair.slice(split + 1))
  }
  return values
}

/** One line for people; tables are only named. */
export function formatOptions(options: Readonly<Record<string, OptionValue>>): string {
  return Object.entries(options)
    .map(([name, value]) => `${name} ${typeof value === 'object' ? 'table' : value}`)
    .join(', ')
}

async function parseValue(name: string, spec: OptionSpec, text: string): Promise<OptionValue> {
  const number = text.trim() === '' ? Number.NaN : Number(text)
  switch (spec.type) {
    case 'choice': {
      const choice = spec.choices.find((value) => String(value) === text)
      if (choice !== undefined) return choice
      throw invalidOption(name, `Option '${name}' is '${text}'.`, `Use one of ${spec.choices.join(', ')}.`)
    }
    case 'number':
      if (!Number.isNaN(number)) return number
      throw invalidOption(
        name,
        `Option '${name}' is '${text}', which is not a number.`,
        `Write ${name}=${spec.default}.`,
      )
    case 'per-head':
    case 'per-step':
      if (!Number.isNaN(number)) return number
      return text.startsWith('@') ? readTable(name, text.slice(1)) : parseTable(name, text, 'its value')
  }
}

async function readTable(name: string, path: string): Promise<OptionValue> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (cause) {
    throw new SparseAttentionError('INVALID_FILE', {
      message: `${path}, given for option '${name}', cannot be read (${(cause as NodeJS.ErrnoException).code}).`,
      fix: 'Check the path.',
      where: path,
      cause,
    })
  }
  return parseTable(name, text, path)
}

/** Only the JSON is checked here; the method checks the table. */
function parseTable(name: string, text: string, source: string): OptionValue {
  try {
    return JSON.parse(text) as OptionValue
  } catch {
    throw invalidOption(
      name,
      `Option '${name}' is neither a number nor a table: ${source} is not JSON.`,
      `Write ${name}=0.9, ${name}='[[0.9,0.8],[0.7,0.6]]' (one list of heads a layer), or ${name}=@table.json.`,
    )
  }
}

function invalidOption(where: string, message: string, fix: string): SparseAttentionError {
  return new SparseAttentionError('INVALID_OPTION', { message, fix, where })
}
