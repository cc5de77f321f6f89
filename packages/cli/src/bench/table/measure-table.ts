import { performance } from 'node:perf_hooks'
import type { Timing } from '@sparse-attention/compare'
import type { Tier } from '@sparse-attention/core'
import { meets, type Row, type Target, type Unit } from './row.js'
import { rows } from './rows/index.js'
import { excuse, measurePoint, type SeriesPoint, series } from './series.js'
import type { Workbench } from './workbench.js'

/** A row with what was found. */
export interface RowResult {
  readonly name: string
  readonly title: string
  readonly unit: Unit
  readonly target: Target | null
  readonly status: 'measured' | 'wrong result' | 'not available'
  /** Why it has no figure. */
  readonly reason: string | null
  readonly value: number | null
  /** null: it has no target, or no figure. */
  readonly met: boolean | null
  readonly setup: string | null
  readonly tier: Tier | null
  readonly checkedError: number | null
  readonly density: number | null
  readonly recall: number | null
  readonly times: Readonly<Record<string, Timing>>
  /** Of the first time: the least that must be computed and moved, and what shares of this device's ceilings that makes. */
  readonly operations: number | null
  readonly operationsShare: number | null
  readonly bytes: number | null
  readonly bytesShare: number | null
  readonly note: string | null
  /** That measuring took, compiling and checking included. */
  readonly seconds: number
}

export interface Chosen {
  readonly rows: readonly Row[]
  readonly points: typeof series
}

/** What of the table has a name that matches. */
export function choose(pattern: RegExp | undefined): Chosen {
  const matches = ({ name }: { readonly name: string }) => pattern === undefined || pattern.test(name)
  return { rows: rows.filter(matches), points: series.filter(matches) }
}

/** What was measured so far. */
export interface Measured {
  readonly rows: readonly RowResult[]
  readonly series: readonly SeriesPoint[]
}

/**
 * Measures row after row.
 *
 * @param onStep after each row and point, with all there are by then
 * @param goesOn asked before each of them
 */
export async function measureTable(
  bench: Workbench,
  chosen: Chosen,
  onStep: (name: string, measured: Measured) => Promise<void>,
  goesOn: () => boolean,
): Promise<Measured> {
  const results: RowResult[] = []
  const points: SeriesPoint[] = []
  const measured = { rows: results, series: points }
  for (const row of chosen.rows) {
    if (!goesOn()) return measured
    results.push(await measureRow(bench, row))
    await onStep(row.name, measured)
  }
  const seen = new Set<string>()
  for (const entry of chosen.points) {
    if (!goesOn()) return measured
    // At a small scale, lengths fall together.
    const key = `${entry.chart}/${entry.series}/${entry.chart === 'length' ? bench.tokens(entry.x) : entry.x}`
    if (!seen.has(key)) points.push(await measurePoint(bench, entry))
    seen.add(key)
    await onStep(entry.name, measured)
  }
  return measured
}

async function measureRow(bench: Workbench, row: Row): Promise<RowResult> {
  const start = performance.now()
  const found = await findRow(bench, row)
  return { ...found, seconds: (performance.now() - start) / 1000 }
}

async function findRow(bench: Workbench, row: Row): Promise<Omit<RowResult, 'seconds'>> {
  const { name, title, unit, target = null } = row
  const named = { name, title, unit, target }
  try {
    const found = await row.measure(bench)
    const { value, times, operations = null, bytes = null, density = null, recall = null, note = null } = found
    const first = Object.values(times)[0]
    const share = (amount: number | null, ceiling: number | null) =>
      amount === null || ceiling === null || !first ? null : amount / (first.medianMs / 1000) / ceiling
    const { bytesPerSecond, f32OperationsPerSecond, matrixOperationsPerSecond } = bench.ceilings
    const measured = value !== null
    return {
      ...named,
      status: measured ? 'measured' : 'not available',
      reason: measured ? null : note,
      value,
      met: measured && target ? meets(value, target) : null,
      setup: found.setup,
      tier: found.tier,
      checkedError: found.checkedError,
      ...{ density, recall, times, operations, bytes },
      operationsShare: share(operations, found.tier === 'matrix' ? matrixOperationsPerSecond : f32OperationsPerSecond),
      bytesShare: share(bytes, bytesPerSecond),
      note: measured ? note : null,
    }
  } catch (error) {
    const { status, reason, checkedError } = excuse(bench, error)
    const nothing = {
      value: null,
      met: null,
      setup: null,
      tier: null,
      density: null,
      recall: null,
      times: {},
      note: null,
    }
    const noRoofline = { operations: null, operationsShare: null, bytes: null, bytesShare: null }
    return { ...named, status, reason, checkedError, ...nothing, ...noRoofline }
  }
}
