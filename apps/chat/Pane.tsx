import { Button, Text } from '@mantine/core'
import { useClipboard } from '@mantine/hooks'
import { Fragment, type ReactElement, useMemo } from 'react'
import { formatMs, formatShare } from '../shell/format.js'
import { Stat, Stats } from '../shell/Stat.js'
import classes from './chat.module.css'
import type { PaneId, PaneToken } from './conversation.js'
import { figuresOf, samePrefix } from './figures.js'
import type { TurnView } from './use-chat.js'

export interface PaneProps {
  readonly id: PaneId
  readonly title: string
  readonly turns: readonly TurnView[]
  /** The dense pane's: what differs from them is marked. */
  readonly beside: readonly TurnView[] | undefined
  /** Whether the needle was found; undefined: none was hidden. */
  readonly found: boolean | undefined
}

/** What one pane has written, and the figures of its last turn. */
export function Pane({ id, title, turns, beside, found }: PaneProps): ReactElement {
  const { copied, copy } = useClipboard()
  const last = turns.at(-1)
  const figures = useMemo(() => figuresOf(last?.written ?? [], last?.reading), [last])
  const { firstTokenMs, tokensPerSecond, reading, writing } = figures
  const density = writing.at(-1)?.statistics.density
  return (
    <section className={classes.pane} aria-labelledby={`pane-${id}`} data-testid={`pane-${id}`}>
      <h2 id={`pane-${id}`}>{title}</h2>
      <Stats>
        <Stat
          id={`${id}-first`}
          label="Time to first token"
          value={firstTokenMs === undefined ? '–' : formatMs(firstTokenMs)}
        />
        <Stat
          id={`${id}-speed`}
          label="Tokens per second"
          value={tokensPerSecond === undefined ? '–' : tokensPerSecond.toFixed(1)}
        />
        <Stat id={`${id}-reading`} label="Density reading" value={reading ? formatShare(reading.density) : '–'} />
        <Stat id={`${id}-writing`} label="Density writing" value={density === undefined ? '–' : formatShare(density)} />
      </Stats>
      {found !== undefined && (
        <Text mt="sm" fw={600} data-testid={`${id}-needle`} data-found={found}>
          {found ? 'Found the hidden line.' : 'Did not find the hidden line.'}
        </Text>
      )}
      {last?.ended && (
        <Text size="sm" mt="xs" data-testid={`${id}-ended`}>
          Read {last.ended.read.toLocaleString('en-US')} tokens
          {last.ended.reused > 0 && `, ${last.ended.reused.toLocaleString('en-US')} were read before`}; wrote{' '}
          {last.written.length}
          {last.ended.finishReason === 'stop' && ', up to the text to stop at'}.
        </Text>
      )}
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable from the keyboard */}
      <section className={classes.text} tabIndex={0} aria-label={`${title}, text`} data-testid={`${id}-text`}>
        {turns.map((turn, i) => (
          <Fragment key={turn.id}>
            <span className={classes.prompt}>{turn.prompt}</span>
            <span data-testid={`${id}-turn-${i}`} data-tokens={turn.written.map(({ token }) => token).join(' ')}>
              <Written written={turn.written} beside={beside?.[i]?.written} />
            </span>
          </Fragment>
        ))}
      </section>
      <Button
        mt="sm"
        size="compact-sm"
        variant="default"
        disabled={figures.text === ''}
        onClick={() => copy(turns.map(({ written }) => figuresOf(written).text).join('\n'))}
      >
        {copied ? 'Copied' : 'Copy the text'}
      </Button>
    </section>
  )
}

/** A text, marked from where it differs from another. */
function Written(props: { written: readonly PaneToken[]; beside: readonly PaneToken[] | undefined }): ReactElement {
  const { written, beside } = props
  const text = (tokens: readonly PaneToken[]): string => tokens.map(({ text }) => text).join('')
  const ids = (tokens: readonly PaneToken[]): number[] => tokens.map(({ token }) => token)
  const same = beside === undefined ? written.length : samePrefix(ids(written), ids(beside))
  return (
    <>
      {text(written.slice(0, same))}
      {same < written.length && <mark>{text(written.slice(same))}</mark>}
    </>
  )
}
