import { Button, Slider, Switch, Text, Textarea } from '@mantine/core'
import { type ReactElement, useCallback, useEffect, useState } from 'react'
import { connect } from '../shell/connect.js'
import { DeviceBadge } from '../shell/DeviceBadge.js'
import { JobStatus } from '../shell/JobStatus.js'
import shell from '../shell/shell.module.css'
import { useJob } from '../shell/use-job.js'
import { BudgetCharts } from './BudgetCharts.js'
import classes from './chat.module.css'
import { type ChosenDocument, DocumentPanel, theBook } from './DocumentPanel.js'
import { MethodField, withBudgets } from './MethodField.js'
import { methodOf, readingMethods, writingMethods } from './methods.js'
import { Pane } from './Pane.js'
import type { Prepared, Stretch, WriteRequest, WriteResult } from './requests.js'
import { SamplingFields, type WritingOptions } from './SamplingFields.js'
import { useChat } from './use-chat.js'
import type { ChatApi } from './worker.js'

const client = connect<ChatApi>(() => new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' }))

const title = (id: string): string => methodOf(id).definition.title

export function Chat(): ReactElement {
  const preparing = useJob<Prepared>()
  const { run: prepare, result: prepared } = preparing
  useEffect(() => {
    prepare(({ signal, report }) => client.call('prepare', undefined, { signal, onReport: report }))
  }, [prepare])
  return (
    <>
      <Text className={shell.lead!}>
        bookworm-9m reads up to 16,384 tokens. It is a base model of 9 million parameters, not an assistant: it
        continues the text that it has read, as a book would go on, and follows no instructions. What it does reliably
        is to find a line that was hidden in the text. The same model answers twice: with dense attention, and with the
        sparse methods that you choose.
      </Text>
      <DeviceBadge device={prepared?.device} />
      {!prepared && <JobStatus job={preparing} retry="Load the model" />}
      {prepared && <Conversation prepared={prepared} />}
    </>
  )
}

function Conversation({ prepared: { sizes } }: { prepared: Prepared }): ReactElement {
  const [chosen, setChosen] = useState<ChosenDocument>(theBook)
  const [stretch, setStretch] = useState<Stretch>()
  const [reading, setReading] = useState({ id: 'xattention', options: {} })
  const [writing, setWriting] = useState({ id: 'quest', options: {} })
  const [options, setOptions] = useState<WritingOptions>({
    newTokens: sizes.newTokens,
    stopAt: '',
    sampling: { temperature: 0, topK: 0, topP: 1, seed: 1 },
  })
  const [prompt, setPrompt] = useState('')
  const [depth, setDepth] = useState(30)
  const [beside, setBeside] = useState(true)
  const [view, dispatch] = useChat()
  /** Methods of the conversation that is shown. */
  const [sparseTitle, setSparseTitle] = useState('')
  const job = useJob<WriteResult>()
  const { running } = job
  const choose = useCallback((next: ChosenDocument) => {
    setChosen(next)
    setStretch(undefined)
  }, [])

  const start = (kind: 'read' | 'needle' | 'go on'): void => {
    const length = stretch?.length ?? sizes.length
    const request: WriteRequest = {
      ...(kind !== 'go on' && { reads: stretch! }),
      ...(kind === 'needle' && { needle: { depth: depth / 100, seed: options.sampling.seed } }),
      prompt: kind === 'needle' ? '' : prompt,
      reading: withBudgets(reading, length),
      writing: withBudgets(writing, length),
      panes: beside ? ['dense', 'sparse'] : ['sparse'],
      newTokens: options.newTokens,
      sampling: options.sampling,
      stopAt: options.stopAt,
    }
    const document = `[${length.toLocaleString('en-US')} tokens of ${chosen.name}${kind === 'needle' ? ', a line hidden in them, and a question' : ''}] `
    setSparseTitle(`Sparse: ${title(reading.id)}, then ${title(writing.id)}`)
    job.run(async ({ signal, report }) => {
      if (kind === 'go on') dispatch({ type: 'go on', prompt })
      else dispatch({ type: 'begin', panes: request.panes, prompt: `${document}${request.prompt}` })
      const result = await client.call('write', request, {
        signal,
        onReport: (told) => {
          if (told.kind === 'progress') report(told.progress)
          else if (told.kind === 'reading') dispatch({ type: 'reading', ...told })
          else dispatch({ type: 'token', ...told })
        },
      })
      dispatch({ type: 'end', result })
      return result
    })
    if (kind === 'go on') setPrompt('')
  }

  const { panes, agreement, needle, room } = view
  const sparseTurns = panes.sparse ?? []
  // After a turn that was cancelled nobody has told; the worker refuses what does not fit.
  const fits = room === undefined || room > options.newTokens
  const ready = stretch !== undefined && !running
  return (
    <div className={`${shell.columns} ${classes.app}`}>
      <div className={shell.stack}>
        <DocumentPanel
          {...{ client, chosen, stretch, sizes }}
          disabled={running}
          onChoose={choose}
          onStretch={setStretch}
        />
        <MethodField
          legend="Sparse pane reads with"
          methods={readingMethods}
          choice={reading}
          length={stretch?.length ?? sizes.length}
          disabled={running}
          onChange={setReading}
        />
        <MethodField
          legend="Sparse pane writes with"
          methods={writingMethods}
          choice={writing}
          length={stretch?.length ?? sizes.length}
          disabled={running}
          onChange={setWriting}
        />
        <SamplingFields options={options} disabled={running} onChange={setOptions} />
        <Switch
          label="Dense attention beside it"
          checked={beside}
          disabled={running}
          onChange={({ currentTarget }) => setBeside(currentTarget.checked)}
        />
        <fieldset className={classes.group} disabled={running}>
          <legend>Needle test</legend>
          <Text size="sm" id="needle-about">
            Hides a line such as “The secret number of Ada of the garden is 482130.” in the document, asks for the
            number, and looks whether each pane writes it. The seed chooses the line.
          </Text>
          <div className={classes.depth}>
            <Text size="sm" mt="xs">
              Depth: {depth} % of the document
            </Text>
            <Slider
              min={0}
              max={100}
              step={5}
              label={null}
              value={depth}
              disabled={running}
              onChange={setDepth}
              thumbLabel="Depth of the hidden line, per cent"
            />
          </div>
          <Button variant="default" onClick={() => start('needle')} disabled={!ready} data-testid="needle">
            Hide a line and ask
          </Button>
        </fieldset>
      </div>
      <div className={shell.stack}>
        <Textarea
          label="Text behind the document"
          description="The model writes on from it. Leave it empty to go on from the document, or from what was written."
          autosize
          minRows={1}
          maxRows={6}
          value={prompt}
          disabled={running}
          onChange={({ currentTarget }) => setPrompt(currentTarget.value)}
        />
        <div className={shell.row}>
          <Button onClick={() => start('read')} disabled={!ready} data-testid="read">
            Read and write
          </Button>
          <Button
            variant="default"
            onClick={() => start('go on')}
            disabled={!ready || !fits || sparseTurns.length === 0}
            data-testid="go-on"
          >
            Write on
          </Button>
          {!fits && <Text size="sm">The conversation is full: read the document again.</Text>}
        </div>
        <JobStatus job={job} />
        {needle && (
          <Text data-testid="needle-result">
            Hidden after {needle.at.toLocaleString('en-US')} of {needle.of.toLocaleString('en-US')} tokens: “
            {needle.line}” Asked: “{needle.question}” The answer is <strong>{needle.answer}</strong>
          </Text>
        )}
        {agreement && (
          <Text data-testid="agreement" data-same={agreement.same} data-of={agreement.of}>
            Sparse attention chooses the same token as dense attention at {agreement.same} of {agreement.of} places of
            the dense text; the texts begin with {agreement.samePrefix} equal tokens.
          </Text>
        )}
        <div className={classes.panes}>
          {panes.dense && (
            <Pane id="dense" title="Dense" turns={panes.dense} beside={undefined} found={needle?.found.dense} />
          )}
          {panes.sparse && (
            <Pane
              id="sparse"
              title={sparseTitle}
              turns={sparseTurns}
              beside={panes.dense}
              found={needle?.found.sparse}
            />
          )}
        </div>
        {sparseTurns.length > 0 && <BudgetCharts turn={sparseTurns.at(-1)!} />}
      </div>
    </div>
  )
}
