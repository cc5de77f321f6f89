import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Ajv, type AnySchemaObject } from 'ajv'

const page = readFileSync(join(import.meta.dirname, '../../../docs/cli.md'), 'utf8')

/** The JSON schemas in docs/cli.md, by their `$id`: what is written there is what is checked. */
const ajv = new Ajv({ allErrors: true, allowUnionTypes: true })
for (const [, block] of page.matchAll(/```json schema\n(.*?)```/gs))
  ajv.addSchema(JSON.parse(block!) as AnySchemaObject)

/**
 * Parses what a verb printed with `--json`: one line, one object, as documented.
 *
 * @throws Error that lists where it differs from the documented schema
 */
export function parseDocumented(id: string, stdout: string): unknown {
  if (!/^\{.*\}\n$/.test(stdout)) throw new Error(`expected one line with one object, got: ${stdout.slice(0, 200)}`)
  const value: unknown = JSON.parse(stdout)
  const validate = ajv.getSchema(id)
  if (!validate) throw new Error(`docs/cli.md has no schema ${id}`)
  if (!validate(value)) throw new Error(`${id}: ${ajv.errorsText(validate.errors, { separator: '\n' })}`)
  return value
}
