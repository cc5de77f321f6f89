import { Text } from '@mantine/core'
import type { ReactElement } from 'react'
import { formatMs } from '../shell/format.js'
import { percent } from './draw-regions.js'
import type { Answer } from './photo-classifier.js'
import classes from './vision.module.css'

export interface AnswersProps {
  readonly routed: Answer
  readonly dense: Answer | undefined
  readonly timedRuns: number
}

/** What the model says, with routed attention and with dense attention. */
export function Answers({ routed, dense, timedRuns }: AnswersProps): ReactElement {
  const columns = [
    { id: 'routed', title: 'Routed', answer: routed },
    ...(dense ? [{ id: 'dense', title: 'Dense', answer: dense }] : []),
  ]
  const names = [...new Set(columns.flatMap(({ answer }) => answer.classes.map(({ name }) => name)))]
  return (
    <div>
      <table className={classes.answers} data-testid="answers">
        <caption className={classes.caption}>What the model sees</caption>
        <thead>
          <tr>
            <th scope="col">Class</th>
            {columns.map(({ id, title }) => (
              <th key={id} scope="col">
                {title}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {names.slice(0, 6).map((name) => (
            <tr key={name}>
              <th scope="row">{name.replaceAll('_', ' ')}</th>
              {columns.map(({ id, title, answer }) => {
                const found = answer.classes.find((each) => each.name === name)
                return (
                  <td key={id} data-class={name} data-attention={id}>
                    {found ? percent(found.probability) : 'less'}
                    {found && (
                      <meter
                        value={found.probability}
                        aria-label={`${name.replaceAll('_', ' ')}, ${title.toLowerCase()}`}
                      />
                    )}
                  </td>
                )
              })}
            </tr>
          ))}
          <tr>
            <th scope="row">Model</th>
            {columns.map(({ id, answer }) => (
              <td key={id}>{formatMs(answer.modelMs)}</td>
            ))}
          </tr>
          <tr>
            <th scope="row">Attention</th>
            {columns.map(({ id, answer }) => (
              <td key={id}>{formatMs(answer.attentionMs)}</td>
            ))}
          </tr>
        </tbody>
      </table>
      <Text size="sm" c="dimmed" mt="xs">
        {timedRuns > 1
          ? `Model: median of ${timedRuns} runs; attention: a run of its own, the GPU idle around each.`
          : 'One run of each, the time to look inside taken off.'}
      </Text>
    </div>
  )
}
