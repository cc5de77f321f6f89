import { readFile } from 'node:fs/promises'
import { nameAdapter } from '@sparse-attention/compare'
import { SparseAttentionError } from '@sparse-attention/core'
import type { Chosen, RowResult } from './measure-table.js'
import type { TableReport } from './report.js'
import { rows as allRows } from './rows/index.js'
import { series as allPoints, type SeriesPoint } from './series.js'

/**
 * What an earlier part of a run wrote.
 *
 * @returns undefined where there is nothing yet
 * @throws INVALID_FILE for what is no report of this command
 */
export async function readEarlier(path: string): Promise<TableReport | undefined> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw notTable(path, error)
  }
  try {
    const report = JSON.parse(text) as TableReport
    if (Array.isArray(report.rows) && Array.isArray(report.series) && Array.isArray(report.parts)) return report
  } catch (error) {
    throw notTable(path, error)
  }
  throw notTable(path)
}

function notTable(path: string, cause?: unknown): SparseAttentionError {
  return new SparseAttentionError('INVALID_FILE', {
    message: `${path} does not hold what bench table --out writes.`,
    fix: 'Leave --resume out, or name another folder.',
    where: path,
    cause,
  })
}

/**
 * Figures of one table are of one machine and one setting.
 *
 * @throws INVALID_ARGUMENT
 */
export function checkSameRun(
  earlier: TableReport,
  now: Pick<TableReport, 'scale' | 'seed' | 'samples' | 'gpuTimes' | 'adapter' | 'versions'>,
): void {
  const told = ({ scale, seed, samples, gpuTimes, adapter, versions }: typeof now) => ({
    ...{ scale, seed, samples, 'times on the GPU': gpuTimes, adapter: nameAdapter(adapter) },
    ...versions,
  })
  const [before, after] = [Object.entries(told(earlier)), new Map(Object.entries(told(now)))]
  const other = before.find(([name, value]) => after.get(name) !== value)
  if (!other) return
  throw new SparseAttentionError('INVALID_ARGUMENT', {
    message: `The table to go on with was measured with ${other[0]} ${other[1]}, this run has ${after.get(other[0])}.`,
    fix: 'Run all of it again, without --resume.',
    where: 'resume',
  })
}

/** Of what was chosen, what an earlier part has not. */
export function notYet({ rows, points }: Chosen, earlier: TableReport): Chosen {
  const there = new Set([...earlier.rows, ...earlier.series].map(({ name }) => name))
  return { rows: rows.filter(({ name }) => !there.has(name)), points: points.filter(({ name }) => !there.has(name)) }
}

/** The rows and points of two parts in the order of the table; where both have one, the later. */
export function mergeParts(
  earlier: Pick<TableReport, 'rows' | 'series'> | undefined,
  found: Pick<TableReport, 'rows' | 'series'>,
): { readonly rows: readonly RowResult[]; readonly series: readonly SeriesPoint[] } {
  if (!earlier) return found
  const merge = <Named extends { readonly name: string }>(
    order: readonly { readonly name: string }[],
    before: readonly Named[],
    after: readonly Named[],
  ): Named[] => {
    const byName = new Map([...before, ...after].map((each) => [each.name, each]))
    return order.flatMap(({ name }) => byName.get(name) ?? [])
  }
  return {
    rows: merge(allRows, earlier.rows, found.rows),
    series: merge(allPoints, earlier.series, found.series),
  }
}
