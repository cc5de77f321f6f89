import { SparseAttentionError } from './errors.js'
import { bytesPerElement, type DType } from './tensor.js'
import { type Tier, tiers } from './tiers.js'

/** Where something was measured. What is not told is an empty string. */
export interface AdapterIdentity {
  readonly vendor: string
  readonly architecture: string
  readonly device: string
  /** Which WebGPU, with its version: `dawn 0.6.2`, `Chrome 147`. */
  readonly implementation: string
}

/** The variant of a kernel that was fastest on an adapter. */
export interface TuningEntry {
  /** Name of the kernel, e.g. `flash-attention`. */
  readonly kernel: string
  readonly adapter: AdapterIdentity
  readonly tier: Tier
  readonly dtype: DType
  readonly headDim: number
  readonly causal: boolean
  /** Name of the variant. Kernels take only names that they list themselves. */
  readonly variant: string
  /** Hash of the sources that were compared: a kernel that has changed since is not what was measured. */
  readonly sources: string
  /** That the variant did, at the longest length: decides how much goes into one dispatch. */
  readonly operationsPerSecond: number
  /** Its time divided by the default's. 1 where the default was the fastest. */
  readonly timeRatio: number
}

/** Results of tuning, as JSON. Made by `tune`, taken by `createRuntime({ tuning })`. */
export interface TuningTable {
  readonly version: 1
  readonly entries: readonly TuningEntry[]
}

const MOST_ENTRIES = 10_000
const LONGEST_NAME = 1000
/** Ten times the fastest known device: more is a mistake, and would put seconds of work into one dispatch. */
const MOST_OPERATIONS_PER_SECOND = 1e16

/**
 * Checks what may have come from anywhere: a file, a page's storage, another machine. Copies what it knows, drops the rest.
 *
 * @throws INVALID_FILE
 */
export function parseTuningTable(value: unknown): TuningTable {
  const { version, entries } = object(value, 'tuning')
  if (version !== 1) refuse('tuning.version', version, 'Tune again with this version: sparse-attention tune.')
  if (!Array.isArray(entries)) refuse('tuning.entries', entries, 'It must be a list.')
  if (entries.length > MOST_ENTRIES) refuse('tuning.entries.length', entries.length, `Keep at most ${MOST_ENTRIES}.`)
  return { version: 1, entries: entries.map((entry, i) => parseEntry(entry, `tuning.entries[${i}]`)) }
}

/** Both tables' entries; where both have one for the same call on the same adapter, the newer's. */
export function mergeTuning(older: TuningTable, newer: TuningTable): TuningTable {
  const entries = new Map([...older.entries, ...newer.entries].map((entry) => [keyOf(entry), entry]))
  return { version: 1, entries: [...entries.values()] }
}

/** What an entry is looked up by. */
export type TuningQuery = Pick<TuningEntry, 'kernel' | 'adapter' | 'tier' | 'dtype' | 'headDim' | 'causal'>

export function findTuning(table: TuningTable, query: TuningQuery): TuningEntry | undefined {
  const key = keyOf(query)
  return table.entries.findLast((entry) => keyOf(entry) === key)
}

function keyOf({ kernel, adapter, tier, dtype, headDim, causal }: TuningQuery): string {
  const { vendor, architecture, device, implementation } = adapter
  return JSON.stringify([kernel, vendor, architecture, device, implementation, tier, dtype, headDim, causal])
}

function parseEntry(value: unknown, where: string): TuningEntry {
  const entry = object(value, where)
  const adapter = object(entry.adapter, `${where}.adapter`)
  const name = (of: Record<string, unknown>, key: string, path: string): string => {
    const text = of[key]
    if (typeof text === 'string' && text.length <= LONGEST_NAME) return text
    return refuse(`${path}.${key}`, text, `It must be a text of at most ${LONGEST_NAME} characters.`)
  }
  const choice = <T extends string>(key: string, choices: readonly T[]): T => {
    const found = choices.find((one) => one === entry[key])
    return found ?? refuse(`${where}.${key}`, entry[key], `It must be one of ${choices.join(', ')}.`)
  }
  const positive = (key: string, most: number): number => {
    const number = entry[key]
    if (typeof number === 'number' && number > 0 && number <= most) return number
    return refuse(`${where}.${key}`, number, `It must be a positive number up to ${most}.`)
  }
  const { causal } = entry
  if (typeof causal !== 'boolean') refuse(`${where}.causal`, causal, 'It must be true or false.')
  return {
    kernel: name(entry, 'kernel', where),
    adapter: {
      vendor: name(adapter, 'vendor', `${where}.adapter`),
      architecture: name(adapter, 'architecture', `${where}.adapter`),
      device: name(adapter, 'device', `${where}.adapter`),
      implementation: name(adapter, 'implementation', `${where}.adapter`),
    },
    tier: choice('tier', tiers),
    dtype: choice('dtype', Object.keys(bytesPerElement) as DType[]),
    headDim: positive('headDim', 256),
    causal,
    variant: name(entry, 'variant', where),
    sources: name(entry, 'sources', where),
    operationsPerSecond: positive('operationsPerSecond', MOST_OPERATIONS_PER_SECOND),
    timeRatio: positive('timeRatio', 1),
  }
}

function object(value: unknown, where: string): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>
  return refuse(where, value, 'It must be an object.')
}

function refuse(where: string, value: unknown, fix: string): never {
  const seen = typeof value === 'object' ? (value === null ? 'null' : 'an object') : String(value).slice(0, 80)
  throw new SparseAttentionError('INVALID_FILE', { message: `${where} is ${seen}.`, fix, where })
}
