import { formatTable } from '../table.js'
import { markdownTable } from './markdown.js'
import { formatRun, type RunReport } from './run-report.js'

/** What a run found, one line a result: for people as it comes and at its end, and as a page. */
export class FigureTable<Result> {
  readonly #right: ReadonlySet<number>

  /**
   * @param head of the columns
   * @param left columns of words; the others, of numbers, are to the right
   * @param cells of a result, one for each column
   */
  constructor(
    private readonly head: readonly string[],
    private readonly left: ReadonlySet<number>,
    private readonly cells: (result: Result) => readonly string[],
  ) {
    this.#right = new Set([...head.keys()].filter((column) => !left.has(column)))
  }

  text(results: readonly Result[]): string {
    return formatTable([this.head, ...results.map(this.cells)], this.#right)
  }

  /** @param notes lines on what the columns say */
  report(results: readonly Result[], notes: readonly string[], run: RunReport): string {
    return [this.text(results), '', ...notes, formatRun(run)].join('\n')
  }

  markdown(title: string, results: readonly Result[], notes: readonly string[], run: RunReport): string {
    const table = markdownTable(this.head, results.map(this.cells), this.left)
    return [`# ${title}`, '', formatRun(run), '', table, '', ...notes.map((line) => `${line}\n`)].join('\n')
  }
}
