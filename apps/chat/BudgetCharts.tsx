import type { GenerationStatistics } from '@sparse-attention/onnxruntime'
import { type ReactElement, useMemo } from 'react'
import { Chart } from '../shell/Chart.js'
import { type Figures, figuresOf } from './figures.js'
import type { TurnView } from './use-chat.js'

/** What the sparse pane's attention keeps: of each layer, and from token to token. */
export function BudgetCharts({ turn }: { turn: TurnView }): ReactElement | null {
  const figures = useMemo(() => figuresOf(turn.written, turn.reading), [turn])
  const looked = figures.reading !== undefined || figures.writing.length > 0
  if (!looked) return null
  return (
    <>
      <DensityByLayer {...figures} />
      {figures.writing.length > 0 && <KeysByToken {...figures} />}
    </>
  )
}

const layerName = (layer: number): string => `layer ${layer + 1}`

function DensityByLayer({ reading, writing }: Figures): ReactElement {
  const last = writing.at(-1)?.statistics
  const layers = (last ?? reading!).layers.map(({ layer }) => layerName(layer))
  const option = useMemo(() => {
    const bars = (name: string, statistics: GenerationStatistics | undefined) =>
      statistics ? [{ name, type: 'bar', data: statistics.layers.map(({ density }) => density) }] : []
    return {
      animation: false,
      grid: { left: 48, right: 12, top: 36, bottom: 28 },
      legend: { top: 0 },
      tooltip: { trigger: 'axis', valueFormatter: (value: number) => value.toFixed(3) },
      xAxis: { type: 'category', data: layers },
      yAxis: { type: 'value', min: 0, max: 1, name: 'density' },
      series: [...bars('reading', reading), ...bars('writing, last look', last)],
    }
  }, [reading, last, layers])
  const cells = (statistics: GenerationStatistics | undefined, i: number): [string, string] => {
    const found = statistics?.layers[i]
    return found ? [found.method, found.density.toFixed(3)] : ['–', '–']
  }
  return (
    <Chart
      option={option}
      height={240}
      description="Density of sparse attention in each layer of the model: the share of visible query–key pairs that it computes, while reading and while writing. Dense attention has 1 everywhere."
      table={{
        columns: ['Layer', 'Reads with', 'Density', 'Writes with', 'Density, last look'],
        rows: layers.map((name, i) => [name, ...cells(reading, i), ...cells(last, i)]),
      }}
    />
  )
}

function KeysByToken({ writing }: Figures): ReactElement {
  const option = useMemo(() => {
    const layers = writing[0]!.statistics.layers.map(({ layer }) => layer)
    return {
      animation: false,
      grid: { left: 56, right: 12, top: 56, bottom: 44 },
      legend: { top: 0, type: 'plain', itemWidth: 14, itemHeight: 8 },
      tooltip: { trigger: 'axis', valueFormatter: (value: number) => value.toFixed(0) },
      xAxis: {
        type: 'category',
        name: 'token',
        nameLocation: 'middle',
        nameGap: 26,
        data: writing.map(({ at }) => at + 1),
      },
      yAxis: { type: 'value', min: 0, name: 'keys per query' },
      series: layers.map((layer, i) => ({
        name: layerName(layer),
        type: 'line',
        showSymbol: true,
        data: writing.map(({ statistics }) => statistics.layers[i]!.keysPerQuery),
      })),
    }
  }, [writing])
  return (
    <Chart
      option={option}
      height={280}
      description="Keys that a query of each layer attends to, mean over heads, at the tokens that were looked into while writing."
      table={{
        columns: ['Token', ...writing[0]!.statistics.layers.map(({ layer }) => layerName(layer))],
        rows: writing.map(({ at, statistics }) => [
          at + 1,
          ...statistics.layers.map(({ keysPerQuery }) => keysPerQuery.toFixed(0)),
        ]),
      }}
    />
  )
}
