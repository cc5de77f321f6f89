import { Button, NativeSelect, NumberInput, Text, Title } from '@mantine/core'
import { type ReactElement, useState } from 'react'
import { connect } from '../shell/connect.js'
import { formatBytes } from '../shell/format.js'
import { ifNumber } from '../shell/if-number.js'
import { JobStatus } from '../shell/JobStatus.js'
import { SaveButton } from '../shell/SaveButton.js'
import shell from '../shell/shell.module.css'
import { useJob } from '../shell/use-job.js'
import type { ExportedFile, ExportFormat } from './export/export-video.js'
import type { Panel } from './export/layout.js'
import type { ExportApi } from './export/worker.js'
import classes from './video.module.css'

const encoder = connect<ExportApi>(() => new Worker(new URL('./export/worker.ts', import.meta.url), { type: 'module' }))

export interface ExportPanelProps {
  /** Begins the file's name. */
  readonly name: string
  /** The dense video and the sparse one, as shown. */
  readonly panels: readonly [Panel, Panel]
  readonly framesPerSecond: number
}

interface Made {
  readonly file: ExportedFile
  readonly name: string
  /** Of which videos: others have come since. */
  readonly of: readonly [Panel['frames'], Panel['frames']]
}

const formats: readonly { value: ExportFormat; label: string }[] = [
  { value: 'mp4', label: 'MP4 video' },
  { value: 'webm', label: 'WebM video' },
  { value: 'png', label: 'PNG, all frames in one picture' },
]
const contents = [
  { value: 'both', label: 'both, side by side' },
  { value: '0', label: 'dense' },
  { value: '1', label: 'sparse' },
] as const

/** Makes a file of what is shown, and saves it. */
export function ExportPanel({ name, panels, framesPerSecond }: ExportPanelProps): ReactElement {
  const [format, setFormat] = useState<ExportFormat>('mp4')
  const [content, setContent] = useState<(typeof contents)[number]['value']>('both')
  const [repeats, setRepeats] = useState(3)
  const job = useJob<Made>()

  const make = (): Promise<void> =>
    job.run(async ({ signal, report }) => {
      const chosen = content === 'both' ? panels : [panels[Number(content)]!]
      const request = { panels: chosen, format, framesPerSecond, repeats }
      const file = await encoder.call('export', request, { signal, onReport: report })
      const what = content === 'both' ? 'side-by-side' : contents[Number(content) + 1]!.label
      return { file, name: `${name}-${what}.${format}`, of: [panels[0].frames, panels[1].frames] }
    })
  const made = job.result?.of.every((frames, i) => frames === panels[i]!.frames) ? job.result : undefined

  return (
    <section className={shell.stack} aria-labelledby="export-title">
      <Title order={2} size="h4" id="export-title">
        Save what is shown
      </Title>
      <div className={classes.fields}>
        <NativeSelect
          label="Format"
          data={[...formats]}
          value={format}
          onChange={(event) => setFormat(event.currentTarget.value as ExportFormat)}
        />
        <NativeSelect
          label="Videos"
          data={[...contents]}
          value={content}
          onChange={(event) => setContent(event.currentTarget.value as typeof content)}
        />
        <NumberInput
          label="Repeats"
          value={repeats}
          onChange={ifNumber((value) => setRepeats(Math.max(1, Math.min(20, value))))}
          min={1}
          max={20}
          allowDecimal={false}
          disabled={format === 'png'}
        />
      </div>
      <div>
        <Button variant="default" onClick={make} disabled={job.running}>
          Make the file
        </Button>
      </div>
      <JobStatus job={job} />
      {made && !job.running && (
        <div className={shell.row}>
          <SaveButton name={made.name} content={() => new Blob([made.file.bytes], { type: made.file.mimeType })}>
            {`Save ${made.name}`}
          </SaveButton>
          <Text size="sm" data-testid="exported">
            {formatBytes(made.file.bytes.length)}, {made.file.width} × {made.file.height} pixels, {made.file.frames}{' '}
            frames{made.file.codec && `, codec ${made.file.codec}`}
          </Text>
        </div>
      )}
    </section>
  )
}
