import { Alert, Button, FileButton, NumberInput, Text, Textarea } from '@mantine/core'
import { type DragEvent, type ReactElement, useEffect, useState } from 'react'
import type { Client } from '../shell/connect.js'
import shell from '../shell/shell.module.css'
import classes from './chat.module.css'
import { readTextFile } from './read-text-file.js'
import type { ChatDocument, Measured, Stretch } from './requests.js'
import type { Sizes } from './sizes.js'
import type { ChatApi } from './worker.js'

/** What is to be read, as it was chosen. */
export interface ChosenDocument {
  /** For people. */
  readonly name: string
  readonly document: ChatDocument
}

export const theBook: ChosenDocument = { name: 'Pride and Prejudice', document: { kind: 'book' } }

export interface DocumentPanelProps {
  readonly client: Client<ChatApi>
  readonly chosen: ChosenDocument
  /** Undefined while its tokens are counted. */
  readonly stretch: Stretch | undefined
  readonly sizes: Sizes
  readonly disabled: boolean
  readonly onChoose: (chosen: ChosenDocument) => void
  readonly onStretch: (stretch: Stretch) => void
}

/** The document: pasted, dropped, chosen as a file, or the book; how many tokens it has, and which of them are read. */
export function DocumentPanel(props: DocumentPanelProps): ReactElement {
  const { client, chosen, stretch, sizes, disabled, onChoose, onStretch } = props
  const { document } = chosen
  const [measured, setMeasured] = useState<Measured>()
  const [problem, setProblem] = useState<string>()
  const [over, setOver] = useState(false)

  useEffect(() => {
    const stop = new AbortController()
    setMeasured(undefined)
    // Whoever types goes on typing.
    const wait = setTimeout(
      async () => {
        try {
          const found = await client.call('measure', { document }, { signal: stop.signal })
          setMeasured(found)
          const length = Math.min(sizes.length, found.tokens - found.begin)
          onStretch({ document, start: found.begin, length: Math.max(1, length) })
        } catch (error) {
          if (!stop.signal.aborted) setProblem((error as Error).message)
        }
      },
      document.kind === 'text' ? 300 : 0,
    )
    return () => {
      clearTimeout(wait)
      stop.abort()
    }
  }, [client, document, sizes, onStretch])

  const take = async (file: File | null | undefined): Promise<void> => {
    if (!file) return
    try {
      const text = await readTextFile(file)
      setProblem(undefined)
      onChoose({ name: file.name, document: { kind: 'text', text } })
    } catch (error) {
      setProblem((error as Error).message)
    }
  }
  const drop = (event: DragEvent): void => {
    event.preventDefault()
    setOver(false)
    if (!disabled) take(event.dataTransfer.files[0])
  }
  const tokens = measured?.tokens
  return (
    <fieldset
      className={`${classes.group} ${over ? classes.dropped : ''}`}
      disabled={disabled}
      onDragOver={(event) => {
        event.preventDefault()
        setOver(true)
      }}
      onDragLeave={() => setOver(false)}
      onDrop={drop}
    >
      <legend>Document</legend>
      <div className={shell.stack}>
        <Textarea
          label="Text to read"
          description="Paste a text here, drop a .txt file, or keep the book."
          placeholder="The book is read."
          minRows={3}
          maxRows={8}
          autosize
          value={document.kind === 'text' ? document.text : ''}
          onChange={({ currentTarget: { value } }) => {
            setProblem(undefined)
            onChoose(value === '' ? theBook : { name: 'Pasted text', document: { kind: 'text', text: value } })
          }}
        />
        <div className={shell.row}>
          <FileButton onChange={take} accept=".txt,.md,text/plain" disabled={disabled}>
            {(button) => (
              <Button variant="default" {...button}>
                Open a file
              </Button>
            )}
          </FileButton>
          <Button variant="default" onClick={() => onChoose(theBook)} disabled={document.kind === 'book'}>
            Load the book
          </Button>
        </div>
        {problem !== undefined && (
          <Alert color="red" role="alert">
            {problem}
          </Alert>
        )}
        <Text size="sm" role="status" data-testid="document" data-tokens={tokens}>
          {tokens === undefined ? 'Counting tokens…' : `${chosen.name}: ${tokens.toLocaleString('en-US')} tokens`}
        </Text>
        {stretch && tokens !== undefined && (
          <>
            <div className={classes.fields}>
              <NumberInput
                label="From token"
                min={0}
                max={Math.max(0, tokens - 1)}
                allowDecimal={false}
                clampBehavior="blur"
                value={stretch.start}
                onChange={(start) => {
                  if (typeof start !== 'number' || start >= tokens) return
                  onStretch({ ...stretch, start, length: Math.min(stretch.length, tokens - start) })
                }}
              />
              <NumberInput
                label="Tokens to read"
                description={`at most ${sizes.longest.toLocaleString('en-US')} here`}
                min={1}
                max={Math.max(1, Math.min(sizes.longest - sizes.newTokens - 1, tokens - stretch.start))}
                allowDecimal={false}
                clampBehavior="blur"
                value={stretch.length}
                onChange={(length) => typeof length === 'number' && length >= 1 && onStretch({ ...stretch, length })}
              />
            </div>
            <Excerpt client={client} stretch={stretch} />
          </>
        )}
      </div>
    </fieldset>
  )
}

/** The stretch as text, where somebody wants to see it. */
function Excerpt({ client, stretch }: { client: Client<ChatApi>; stretch: Stretch }): ReactElement {
  const [open, setOpen] = useState(false)
  const [text, setText] = useState('')
  useEffect(() => {
    if (!open) return
    const stop = new AbortController()
    client.call('show', stretch, { signal: stop.signal }).then(setText, () => {})
    return () => stop.abort()
  }, [client, stretch, open])
  return (
    <details onToggle={({ currentTarget }) => setOpen(currentTarget.open)}>
      <summary>What is read</summary>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable from the keyboard */}
      <section className={classes.excerpt} tabIndex={0} aria-label="What is read">
        {text}
      </section>
    </details>
  )
}
