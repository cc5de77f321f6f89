import { Text, Title } from '@mantine/core'
import { type ReactElement, useMemo } from 'react'
import { Chart } from '../shell/Chart.js'
import { formatMs, formatShare } from '../shell/format.js'
import { Stat, Stats } from '../shell/Stat.js'
import shell from '../shell/shell.module.css'
import { stepDensity, totals, type Videos, videoDensity } from './videos.js'

/** How the two videos compare: over all steps, and step by step. */
export function Findings({ videos }: { readonly videos: Videos }): ReactElement | null {
  const { dense, sparse, request } = videos
  const last = sparse.at(-1)
  if (!last) return null
  const [exact, ours] = [totals(dense), totals(sparse)]
  const density = videoDensity(videos)
  const whole = sparse.length === request.steps
  return (
    <section className={shell.stack} aria-labelledby="findings-title">
      <Title order={2} size="h4" id="findings-title">
        {whole ? 'The finished videos' : `After ${sparse.length} of ${request.steps} steps`}
      </Title>
      <Stats>
        <Stat label="PSNR to dense" value={decibels(last.psnr!)} id="psnr" />
        <Stat label="SSIM to dense" value={last.ssim!.toFixed(4)} id="ssim" />
        {density !== undefined && <Stat label="Density" value={formatShare(density)} id="density" />}
        <Stat label="Dense, all steps" value={formatMs(exact.ms)} id="dense-ms" />
        <Stat label="Sparse, all steps" value={formatMs(ours.ms)} id="sparse-ms" />
        {exact.attentionMs !== undefined && ours.attentionMs !== undefined && (
          <>
            <Stat label="Dense, attention" value={formatMs(exact.attentionMs)} />
            <Stat label="Sparse, attention" value={formatMs(ours.attentionMs)} />
          </>
        )}
        <Stat label="Runs of the model" value={`${exact.evaluations} and ${ours.evaluations}`} id="evaluations" />
      </Stats>
      <Text size="sm">
        Steps are timed after everything is compiled, in turns, without the time that looking inside takes.
        {request.looks && ' Looking waits for the GPU around each attention: untick skip maps to time whole videos.'}
      </Text>
      <StepChart videos={videos} />
    </section>
  )
}

/** Equal videos have no end of decibels; the scale ends at 100. */
function decibels(psnr: number): string {
  return psnr >= 100 ? 'equal' : `${psnr.toFixed(2)} dB`
}

function StepChart({ videos }: { readonly videos: Videos }): ReactElement {
  const { option, table, description } = useMemo(() => {
    const steps = videos.sparse.map((sparse, i) => ({ sparse, dense: videos.dense[i]! }))
    const densities = steps.map(({ sparse }) => stepDensity(sparse, videos))
    const psnrs = steps.map(({ sparse }) => sparse.psnr!)
    const line = (name: string, yAxisIndex: number, data: readonly (number | undefined)[], symbol: string) => ({
      name,
      type: 'line' as const,
      yAxisIndex,
      symbol,
      symbolSize: 8,
      data: data.map((value) => (value === undefined ? null : Number(value.toPrecision(5)))),
    })
    return {
      description: `Density and PSNR of the ${steps.length} steps so far; density of the last ${formatShare(densities.at(-1) ?? 1)}, PSNR ${decibels(psnrs.at(-1)!)}.`,
      option: {
        legend: { top: 0 },
        grid: { left: 48, right: 56, top: 40, bottom: 40 },
        tooltip: { trigger: 'axis' },
        xAxis: {
          type: 'category',
          name: 'step',
          nameLocation: 'middle',
          nameGap: 26,
          data: steps.map((_, i) => i + 1),
        },
        yAxis: [
          { type: 'value', name: 'density', min: 0, max: 1 },
          { type: 'value', name: 'PSNR, dB', splitLine: { show: false }, scale: true },
        ],
        series: [line('density', 0, densities, 'circle'), line('PSNR', 1, psnrs, 'triangle')],
      },
      table: {
        columns: ['Step', 'Density', 'PSNR', 'SSIM', 'Dense', 'Sparse'],
        rows: steps.map(({ sparse, dense }, i) => [
          i + 1,
          densities[i] === undefined ? 'not read' : formatShare(densities[i]),
          decibels(sparse.psnr!),
          sparse.ssim!.toFixed(4),
          formatMs(dense.ms),
          formatMs(sparse.ms),
        ]),
      },
    }
  }, [videos])
  return <Chart option={option} description={description} table={table} height={260} />
}
