import { Alert, Button, Code, Progress as ProgressBar, Text } from '@mantine/core'
import type { ReactElement } from 'react'
import { formatBytes } from './format.js'
import { type AppError, endsWorker } from './protocol.js'
import classes from './shell.module.css'
import type { Job, Progress } from './use-job.js'

export interface JobStatusProps {
  readonly job: Job<unknown>
  /** What the job does ('Load the model'), where nothing else on the page starts it again after it was cancelled or failed. */
  readonly retry?: string
}

/** Progress and a button to cancel while a job runs; what went wrong, and what to do, after one that failed. */
export function JobStatus({ job, retry }: JobStatusProps): ReactElement | null {
  const { state } = job
  switch (state.status) {
    case 'running':
      return (
        <div className={classes.stack} data-testid="job-running">
          <ProgressLine progress={state.progress} />
          <div>
            <Button variant="default" onClick={job.cancel} disabled={state.cancelling}>
              {state.cancelling ? 'Cancelling…' : 'Cancel'}
            </Button>
          </div>
        </div>
      )
    case 'cancelled':
      return (
        <div className={classes.row}>
          <Text role="status" data-testid="job-cancelled">
            Cancelled.
          </Text>
          {retry !== undefined && <Button onClick={job.again}>{retry}</Button>}
        </div>
      )
    case 'failed':
      return <Failure error={state.error} job={job} retry={retry} />
    case 'done':
      return (
        <Text role="status" className={classes.hidden!}>
          Done.
        </Text>
      )
    case 'idle':
      return null
  }
}

function ProgressLine({ progress }: { progress: Progress | undefined }): ReactElement {
  const { label, done, total, unit } = progress ?? { label: 'Starting' }
  const known = done !== undefined && total !== undefined && total > 0
  const write = (n: number): string => (unit === 'bytes' ? formatBytes(n) : `${Math.round(n)}`)
  const amount = done === undefined ? '' : ` — ${write(done)}${total === undefined ? '' : ` of ${write(total)}`}`
  return (
    <div>
      <Text size="sm">
        <span role="status">{label}</span>
        {amount}
      </Text>
      <ProgressBar
        mt={4}
        aria-label={label}
        value={known ? Math.min(100, (100 * done) / total) : 100}
        animated={!known}
        striped={!known}
      />
    </div>
  )
}

const titles: Partial<Record<AppError['code'], string>> = {
  DEVICE_LOST: 'The GPU stopped answering',
  OUT_OF_MEMORY: 'There is not enough memory',
  WORKER_FAILED: 'The computation stopped',
  WEBGPU_UNAVAILABLE: 'There is no GPU to compute on',
  INVALID_FILE: 'This file cannot be used',
  UNSUPPORTED: 'This combination is not supported',
}

interface FailureProps {
  readonly error: AppError
  readonly job: Job<unknown>
  readonly retry: string | undefined
}

function Failure({ error, job, retry }: FailureProps): ReactElement {
  // With the same input: other errors need another.
  const again = retry ?? (endsWorker(error.code) ? 'Start again' : undefined)
  return (
    <Alert
      color="red"
      role="alert"
      title={titles[error.code] ?? 'This did not work'}
      data-testid="job-failed"
      data-code={error.code}
    >
      <Text>{error.message}</Text>
      <Text size="sm" mt="xs">
        Code: <Code>{error.code}</Code>
      </Text>
      {again !== undefined && (
        <Button mt="sm" onClick={job.again}>
          {again}
        </Button>
      )}
    </Alert>
  )
}
