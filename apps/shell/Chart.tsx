import { Table, useComputedColorScheme } from '@mantine/core'
import type { EChartsCoreOption } from 'echarts/core'
import { type ReactElement, useEffect, useRef } from 'react'
import classes from './shell.module.css'

export interface ChartTable {
  readonly columns: readonly string[]
  readonly rows: readonly (readonly (string | number)[])[]
}

export interface ChartProps {
  /** Of ECharts. Make it once per change of the data (`useMemo`). Text and lines take the page's colours by themselves. */
  readonly option: EChartsCoreOption
  /** What the picture shows, in a sentence, for those who do not see it. */
  readonly description: string
  /** The same numbers, for everyone, behind a button. */
  readonly table?: ChartTable
  /** In CSS pixels. Default 300. */
  readonly height?: number
}

/** A chart with its numbers in words: ECharts on a canvas. Tooltips are drawn, since the security policy forbids their HTML's styles. */
export function Chart({ option, description, table, height = 300 }: ChartProps): ReactElement {
  const element = useRef<HTMLDivElement>(null)
  const scheme = useComputedColorScheme()

  useEffect(() => {
    const host = element.current!
    host.style.height = `${height}px`
    const gone = new AbortController()
    // Loaded with the first chart: no page needs it before.
    import('./echarts.js').then(({ init }) => {
      if (gone.signal.aborted) return
      const still = matchMedia('(prefers-reduced-motion: reduce)').matches
      const chart = init(host, scheme === 'dark' ? 'dark' : undefined, { renderer: 'canvas' })
      chart.setOption({
        backgroundColor: 'transparent',
        animation: !still,
        textStyle: { fontFamily: 'system-ui, sans-serif' },
        ...option,
        tooltip: { ...(option.tooltip as object | undefined), renderMode: 'richText' },
      })
      const resized = new ResizeObserver(() => chart.resize())
      resized.observe(host)
      gone.signal.addEventListener('abort', () => {
        resized.disconnect()
        chart.dispose()
      })
    })
    return () => gone.abort()
  }, [option, scheme, height])

  return (
    <div className={classes.stack}>
      <div ref={element} className={classes.chart} role="img" aria-label={description} />
      {table && (
        <details>
          <summary>The same as a table</summary>
          <NumberTable {...table} />
        </details>
      )}
    </div>
  )
}

export function NumberTable({ columns, rows }: ChartTable): ReactElement {
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable from the keyboard
    <section className={classes.tableScroll} tabIndex={0} aria-label="Table">
      <Table>
        <Table.Thead>
          <Table.Tr>
            {columns.map((column) => (
              <Table.Th key={column}>{column}</Table.Th>
            ))}
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {rows.map((row) => (
            <Table.Tr key={row.join('|')}>
              {row.map((cell, column) => (
                <Table.Td key={columns[column]}>{cell}</Table.Td>
              ))}
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </section>
  )
}
