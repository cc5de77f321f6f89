import { SparseAttentionError } from './errors.js'
import type { ConfiguredMethod, MethodDefinition, MethodFactory, MethodOptions, OptionSpec } from './method.js'

/** Makes a method's factory from its definition: fills in defaults and checks options before anything runs. */
export function defineMethod<Options extends MethodOptions>(
  definition: MethodDefinition<Options>,
): MethodFactory<Options> {
  const factory = (given: Partial<Options> = {}): ConfiguredMethod<Options> => ({
    method: definition,
    options: resolveOptions(definition, given),
  })
  return Object.assign(factory, { definition })
}

function resolveOptions<Options extends MethodOptions>(
  definition: MethodDefinition<Options>,
  given: Partial<Options>,
): Required<Options> {
  const specs = definition.options as Record<string, OptionSpec>
  for (const name of Object.keys(given)) {
    if (!Object.hasOwn(specs, name)) {
      const known = Object.keys(specs)
      throw new SparseAttentionError('INVALID_OPTION', {
        message: `${definition.id} has no option '${name}'.`,
        fix: known.length > 0 ? `Its options are ${known.join(', ')}.` : 'It takes no options.',
        where: name,
      })
    }
  }
  const options: Record<string, unknown> = {}
  for (const [name, spec] of Object.entries(specs)) {
    const value = given[name as keyof Options]
    if (value !== undefined) checkOption(definition.id, name, spec, value)
    options[name] = value ?? spec.default
  }
  return options as Required<Options>
}

function checkOption(method: string, name: string, spec: OptionSpec, value: unknown): void {
  const refuse = (fix: string): never => {
    throw new SparseAttentionError('INVALID_OPTION', {
      message: `${method}: option '${name}' is ${shown(value)}.`,
      fix,
      where: name,
    })
  }
  if (spec.type === 'choice') {
    if (!spec.choices.includes(value as number | string)) refuse(`Use one of ${spec.choices.join(', ')}.`)
    return
  }
  const { min = Number.NEGATIVE_INFINITY, max = Number.POSITIVE_INFINITY } = spec
  const integer = spec.type === 'number' && spec.integer === true
  const valid = (n: unknown) =>
    typeof n === 'number' && n >= min && n <= max && (integer ? Number.isSafeInteger(n) : Number.isFinite(n))
  const range = `${integer ? 'an integer' : 'a number'} from ${min} to ${max}`
  if (spec.type === 'number') {
    if (!valid(value)) refuse(`Use ${range}.`)
    return
  }
  if (typeof value === 'number' ? valid(value) : isTable(value) && value.flat().every(valid)) return
  refuse(
    `Use ${range}, or a table [layer][${spec.type === 'per-step' ? 'step' : 'head'}] of such numbers with rows of one length.`,
  )
}

/** The beginning of a value, whatever it is: JSON knows neither bigints nor cycles. */
function shown(value: unknown): string {
  let text: string | undefined
  try {
    text = JSON.stringify(value)
  } catch {}
  text ??= typeof value === 'object' ? 'an object' : String(value)
  return text.length > 200 ? `${text.slice(0, 200)}…` : text
}

function isTable(value: unknown): value is number[][] {
  return (
    Array.isArray(value) &&
    value.length > 0 &&
    value.every((row) => Array.isArray(row) && row.length > 0 && row.length === value[0].length)
  )
}
