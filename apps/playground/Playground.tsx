import { Alert, Button, Loader, Switch, Title } from '@mantine/core'
import { type ReactElement, useCallback, useEffect, useState } from 'react'
import { connect } from '../shell/connect.js'
import { DeviceBadge } from '../shell/DeviceBadge.js'
import { JobStatus } from '../shell/JobStatus.js'
import classes from '../shell/shell.module.css'
import { useJob } from '../shell/use-job.js'
import { Benchmark } from './Benchmark.js'
import { CodeBlock } from './CodeBlock.js'
import { InputFields } from './InputFields.js'
import { MethodPanel } from './MethodPanel.js'
import { Results } from './Results.js'
import { reproduce } from './reproduce.js'
import type { CompareResult, Opened } from './requests.js'
import { type Chosen, parseGrid, requestOf, type Setup, usualSetup } from './setup.js'
import type { Api } from './worker.js'

const client = connect<Api>(() => new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' }))

/** How long nothing changes before what is shown is computed again. */
const settledMs = 400

export function Playground(): ReactElement {
  const opening = useJob<Opened>()
  const { run: open } = opening
  useEffect(() => {
    open(({ signal }) => client.call('open', undefined, { signal }))
  }, [open])
  return (
    <div className={classes.stack}>
      <DeviceBadge device={opening.result?.device} />
      {opening.result ? <Workbench opened={opening.result} /> : <JobStatus job={opening} retry="Look for a GPU" />}
    </div>
  )
}

function Workbench({ opened }: { opened: Opened }): ReactElement {
  const [setup, setSetup] = useState<Setup>(() => usualSetup(opened))
  const [live, setLive] = useState(true)
  /** What was asked for last; it is shown, and told by the code, until the next result. */
  const [asked, setAsked] = useState<Setup>()
  const job = useJob<CompareResult>()
  const { run } = job
  const badGrid = parseGrid(setup.gridText) === null
  const request = badGrid ? undefined : requestOf(setup)

  const start = useCallback(
    (next: Setup): void => {
      const request = requestOf(next)
      if (!request) return
      setAsked(next)
      run(({ signal, report }) => client.call('compare', request, { signal, onReport: report }))
    },
    [run],
  )

  // Live: what is shown follows what is chosen, once something has been shown.
  const stale = asked !== undefined && asked !== setup
  useEffect(() => {
    if (!live || !stale || badGrid) return
    const timer = setTimeout(() => start(setup), settledMs)
    return () => clearTimeout(timer)
  }, [live, stale, badGrid, setup, start])

  const setMethod = (at: 0 | 1, chosen: Chosen): void =>
    setSetup((old) => ({ ...old, methods: at === 0 ? [chosen, old.methods[1]] : [old.methods[0], chosen] }))

  return (
    <div className={classes.columns}>
      <form
        className={classes.stack}
        aria-label="What to compare"
        onSubmit={(event) => {
          event.preventDefault()
          start(setup)
        }}
      >
        <InputFields setup={setup} onChange={setSetup} client={client} />
        <MethodPanel title="Method A" setup={setup} at={0} onChange={setMethod} />
        <MethodPanel title="Method B" setup={setup} at={1} onChange={setMethod} />
        <Switch label="Follow every change" checked={live} onChange={(event) => setLive(event.currentTarget.checked)} />
        <Button type="submit" disabled={request === undefined}>
          Compare
        </Button>
      </form>
      <div className={classes.stack}>
        <JobStatus job={job} />
        {job.running && job.result && <Loader size="xs" aria-label="Computing again" />}
        {job.result ? (
          <Results result={job.result} />
        ) : (
          job.state.status === 'idle' && (
            <Alert title="Two methods on the same tensors">
              Choose tensors and two methods, and press Compare: you see which pairs of queries and keys each head of
              either method computes, how much softmax mass they cover, how far the output is from exact attention, and
              how long it took here.
            </Alert>
          )
        )}
        {request && (
          <section aria-labelledby="code" className={classes.stack}>
            <Title order={2} size="h4" id="code">
              The same in code
            </Title>
            <CodeBlock code={reproduce(request)} />
          </section>
        )}
        <Benchmark setup={setup} software={opened.device.software} client={client} />
      </div>
    </div>
  )
}
