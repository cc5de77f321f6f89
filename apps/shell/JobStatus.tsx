import { Alert, Button, Code, Progress as ProgressBar, Text } from '@mantine/core'
import type { ReactElement } from 'react'
import { formatBytes } from './format.js'
import type { AppError } from './protocol.js'
import classes from './shell.module.css'
import type { Job, Progress } from './use-job.js'

export interface JobStatusProps {
  readonly job: Job<unknown>
  /** Ends the worker, so that the job can start on a new device: `client.restart`. */
  readonly restart: () => void
}

/** Progress and a button to cancel while a job runs; what went wrong, and what to do, after one that failed. */
export function JobStatus({ job, restart }: JobStatusProps): ReactElement | null {
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
        <Text role="status" data-testid="job-cancelled">
          Cancelled.
        </Text>
      )
    case 'failed':
      return <Failure error={state.error} job={job} restart={restart} />
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

/** After these the worker's device, or the worker itself, is of no more use. */
const needsRestart: readonly AppError['code'][] = [
  'DEVICE_LOST',
  'OUT_OF_MEMORY',
  'WORKER_FAILED',
  'WEBGPU_UNAVAILABLE',
  'DISPOSED',
  'UNEXPECTED',
]

function Failure({ error, job, restart }: { error: AppError } & JobStatusProps): ReactElement {
  const startAgain = (): void => {
    restart()
    job.again()
  }
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
      {needsRestart.includes(error.code) && (
        <Button mt="sm" onClick={startAgain}>
          Start again
        </Button>
      )}
    </Alert>
  )
}
