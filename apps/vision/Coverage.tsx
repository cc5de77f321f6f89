import { Title } from '@mantine/core'
import { type ReactElement, useMemo } from 'react'
import { Chart } from '../shell/Chart.js'
import { formatShare } from '../shell/format.js'
import type { LayerLook } from './photo-classifier.js'
import { coverageOf, type HeadChoice } from './routes-view.js'

export interface CoverageProps {
  readonly look: LayerLook
  readonly head: HeadChoice
  readonly asking: number
}

/** Attention covered against the number of regions k, of the region that asks. */
export function Coverage({ look, head, asking }: CoverageProps): ReactElement {
  const { curves, option } = useMemo(() => {
    const curves = coverageOf(look, head, [asking])
    const points = (values: readonly number[]) => values.map((mass, i) => [i + 1, mass])
    const chosen = look.routes?.topK
    const option = {
      grid: { left: 56, right: 16, top: 40, bottom: 48 },
      legend: { top: 0 },
      tooltip: { trigger: 'axis', valueFormatter: (mass: number) => formatShare(mass) },
      xAxis: {
        type: 'value',
        name: 'k regions',
        nameLocation: 'middle',
        nameGap: 28,
        min: 1,
        max: curves.routed.length,
      },
      yAxis: { type: 'value', min: 0, max: 1, axisLabel: { formatter: (mass: number) => `${100 * mass} %` } },
      series: [
        { name: 'as routed', type: 'line', showSymbol: false, data: points(curves.routed) },
        { name: 'at best', type: 'line', showSymbol: false, lineStyle: { type: 'dashed' }, data: points(curves.best) },
        ...(chosen === undefined
          ? []
          : [{ name: `k = ${chosen}`, type: 'scatter', symbolSize: 12, data: [[chosen, curves.routed[chosen - 1]]] }]),
      ],
    }
    return { curves, option }
  }, [look, head, asking])
  return (
    <div>
      <Title order={3} size="h5">
        Attention in the first k regions
      </Title>
      <Chart
        height={280}
        option={option}
        description={`Attention in the first k regions of the routing: ${formatShare(curves.routed[0]!)} in one, ${formatShare(curves.routed[Math.floor(curves.routed.length / 2)]!)} in half of them.`}
        table={{
          columns: ['k', 'as routed', 'at best'],
          rows: curves.routed.map((mass, i) => [i + 1, formatShare(mass), formatShare(curves.best[i]!)]),
        }}
      />
    </div>
  )
}
