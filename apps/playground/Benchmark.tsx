import { Button, Fieldset, NumberInput, Text, TextInput, Title } from '@mantine/core'
import type { BenchReport } from '@sparse-attention/compare'
import { type ReactElement, useMemo, useState } from 'react'
import { Chart, NumberTable } from '../shell/Chart.js'
import type { Client } from '../shell/connect.js'
import { formatMs, formatShare } from '../shell/format.js'
import { ifNumber } from '../shell/if-number.js'
import { JobStatus } from '../shell/JobStatus.js'
import { SaveButton } from '../shell/SaveButton.js'
import classes from '../shell/shell.module.css'
import { useJob } from '../shell/use-job.js'
import type { BenchRequest } from './requests.js'
import type { Setup } from './setup.js'
import type { Api } from './worker.js'

export interface BenchmarkProps {
  readonly setup: Setup
  readonly software: boolean
  readonly client: Client<Api>
}

/** Lengths as written: '1024, 4096'. Null for what is none. */
export function parseLengths(text: string): number[] | null {
  const lengths = text.split(',').map((part) => Number(part.trim()))
  const good = lengths.every((length) => Number.isInteger(length) && length > 0 && length <= 131072)
  return good && new Set(lengths).size === lengths.length ? lengths : null
}

/** Times both methods beside dense at several lengths of made-up tensors; saves what `bench --json` prints. */
export function Benchmark({ setup, software, client }: BenchmarkProps): ReactElement {
  const [text, setText] = useState(software ? '64, 128' : '1024, 4096, 16384')
  const [samples, setSamples] = useState(software ? 3 : 15)
  const job = useJob<BenchReport>()
  const lengths = parseLengths(text)
  const start = (): void => {
    if (!lengths) return
    const { kind, seed, queryHeads, kvHeads, headDim, dtype, causal, methods } = setup
    const shape = { batch: 1, queryHeads, kvHeads, headDim }
    const request: BenchRequest = { kind, seed, shape, dtype, causal, lengths, methods: unlike(methods), samples }
    job.run(({ signal, report }) => client.call('bench', request, { signal, onReport: report }))
  }
  return (
    <section aria-labelledby="benchmark" className={classes.stack}>
      <Title order={2} size="h4" id="benchmark">
        Benchmark
      </Title>
      <Text size="sm">
        Dense and both methods on made-up tensors of several lengths, each answer checked against float64 before it is
        timed. Options that you did not change are the methods’ budgets for each length. The file has the form of{' '}
        <code>sparse-attention bench --json</code>.
      </Text>
      <Fieldset legend="What to time">
        <div className={classes.row}>
          <TextInput
            label="Lengths"
            value={text}
            error={lengths ? undefined : 'Write lengths like 1024, 4096.'}
            onChange={(event) => setText(event.currentTarget.value)}
          />
          <NumberInput
            label="Samples"
            value={samples}
            min={1}
            max={100}
            allowDecimal={false}
            clampBehavior="blur"
            onChange={ifNumber((value) => value >= 1 && setSamples(value))}
          />
          <Button onClick={start} disabled={!lengths || job.running}>
            Benchmark
          </Button>
        </div>
      </Fieldset>
      <JobStatus job={job} />
      {job.result && <Report report={job.result} />}
    </section>
  )
}

/** A method that is there twice with the same options is timed once; dense always is. */
function unlike(methods: Setup['methods']): Setup['methods'][number][] {
  const [a, b] = methods
  const both = JSON.stringify(a) === JSON.stringify(b) ? [a] : [a, b]
  return both.filter(({ id }) => id !== 'dense')
}

function Report({ report }: { report: BenchReport }): ReactElement {
  const { results } = report
  const option = useMemo(() => {
    const contenders = [...new Set(results.map(({ contender }) => contender))]
    return {
      grid: { left: 64, right: 16, top: 36, bottom: 44 },
      legend: { top: 0 },
      tooltip: { trigger: 'axis' },
      xAxis: { type: 'log', name: 'tokens', nameLocation: 'middle', nameGap: 28 },
      yAxis: { type: 'log', name: 'ms' },
      series: contenders.map((contender) => ({
        type: 'line',
        name: contender,
        data: results
          .filter((result) => result.contender === contender && result.total !== null)
          .map(({ length, total }) => [length, (total!.gpu ?? total!.wall).medianMs]),
      })),
    }
  }, [results])
  return (
    <div className={classes.stack} data-testid="bench-report">
      <Chart
        option={option}
        description="Median time of each method by length, on logarithmic axes; the table has the numbers."
      />
      <NumberTable
        columns={['Length', 'Method', 'Density', 'Recall', 'Wall, median', 'GPU, median']}
        rows={results.map(({ length, contender, density, recall, total, status }) => [
          length,
          contender,
          density === null ? '–' : formatShare(density),
          recall === null ? '–' : formatShare(recall),
          total ? formatMs(total.wall.medianMs) : status,
          total?.gpu ? formatMs(total.gpu.medianMs) : '–',
        ])}
      />
      <div>
        <SaveButton
          name="bench.json"
          content={() => new Blob([`${JSON.stringify(report)}\n`], { type: 'application/json' })}
        >
          Save as JSON
        </SaveButton>
      </div>
    </div>
  )
}
