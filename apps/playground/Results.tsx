import { Card, NativeSelect, Text, Title } from '@mantine/core'
import { type ReactElement, useMemo, useState } from 'react'
import { Chart } from '../shell/Chart.js'
import { formatMs, formatShare } from '../shell/format.js'
import { PlanMap } from '../shell/PlanMap.js'
import { type PlanWindow, wholePlan } from '../shell/plan-grid.js'
import { Stat, Stats } from '../shell/Stat.js'
import classes from '../shell/shell.module.css'
import styles from './playground.module.css'
import type { ComparedMethod, CompareResult } from './requests.js'

/** Both methods side by side, the same head and the same part of it. */
export function Results({ result }: { result: CompareResult }): ReactElement {
  const [a, b] = result.methods as [ComparedMethod, ComparedMethod]
  const heads = a.headDensities.length
  const [chosenHead, setHead] = useState(0)
  const head = Math.min(chosenHead, heads - 1)
  const [window, setWindow] = useState<PlanWindow>(() => wholePlan(a.plan))
  const names = a.id === b.id ? [`A: ${a.id}`, `B: ${b.id}`] : [a.id, b.id]
  return (
    <section className={classes.stack} aria-label="Results" data-testid="results">
      <NativeSelect
        label="Head"
        className={styles.head!}
        data={Array.from({ length: heads }, (_, i) => String(i))}
        value={String(head)}
        onChange={(event) => setHead(Number(event.currentTarget.value))}
      />
      <div className={styles.pair}>
        {[a, b].map((method, i) => (
          <Card
            withBorder
            key={i === 0 ? 'a' : 'b'}
            component="section"
            aria-label={names[i]!}
            data-testid={`method-${'ab'[i]}`}
          >
            <div className={classes.stack}>
              <Title order={2} size="h4">
                {names[i]}
              </Title>
              <Figures method={method} denseMs={result.denseMs} />
              <PlanMap
                plan={method.plan}
                head={head}
                label={`${names[i]}, head ${head}`}
                window={window}
                onWindow={setWindow}
              />
            </div>
          </Card>
        ))}
      </div>
      <HeadChart methods={[a, b]} names={names} />
    </section>
  )
}

function Figures({ method, denseMs }: { method: ComparedMethod; denseMs: number }): ReactElement {
  const { density, recall, relativeError, medianMs, path } = method
  return (
    <>
      <Stats>
        <Stat id="density" label="Density" value={formatShare(density)} />
        <Stat id="recall" label="Recall" value={formatShare(recall)} />
        <Stat id="error" label="Error" value={relativeError === 0 ? '0' : relativeError.toExponential(2)} />
        <Stat id="time" label="Time" value={formatMs(medianMs)} />
        <Stat id="against-dense" label="Dense takes" value={formatMs(denseMs)} />
      </Stats>
      {path === 'dense' && <Text size="sm">With these options it keeps everything, and ran as dense attention.</Text>}
    </>
  )
}

function HeadChart({ methods, names }: { methods: readonly ComparedMethod[]; names: readonly string[] }): ReactElement {
  const option = useMemo(
    () => ({
      grid: { left: 48, right: 12, top: 36, bottom: 40 },
      legend: { top: 0 },
      tooltip: { trigger: 'axis' },
      xAxis: {
        type: 'category',
        name: 'head',
        nameLocation: 'middle',
        nameGap: 26,
        data: methods[0]!.headDensities.map((_, head) => String(head)),
      },
      yAxis: { type: 'value', min: 0, max: 1, name: 'density' },
      series: methods.map(({ headDensities }, i) => ({
        type: 'bar',
        name: names[i],
        data: headDensities.map((density) => Number(density.toFixed(4))),
        itemStyle: i === 1 ? { decal: { symbol: 'rect', dashArrayX: [1, 0], dashArrayY: [3, 3] } } : {},
      })),
    }),
    [methods, names],
  )
  return (
    <Chart
      option={option}
      height={240}
      description={`Density of each head: ${methods.map((method, i) => `${names[i]} ${formatShare(method.density)} overall`).join(', ')}.`}
      table={{
        columns: ['Head', ...names],
        rows: methods[0]!.headDensities.map((_, head) => [
          head,
          ...methods.map(({ headDensities }) => formatShare(headDensities[head]!)),
        ]),
      }}
    />
  )
}
