import { Anchor, Fieldset, NativeSelect, Text } from '@mantine/core'
import type { ReactElement } from 'react'
import { OptionFields } from '../shell/OptionFields.js'
import classes from '../shell/shell.module.css'
import { definitionOf, definitions, whyNot } from './methods.js'
import { type Chosen, factsOf, type Setup } from './setup.js'

export interface MethodPanelProps {
  readonly title: string
  readonly setup: Setup
  readonly at: 0 | 1
  readonly onChange: (at: 0 | 1, chosen: Chosen) => void
}

const phases = [...new Set(definitions.map(({ phase }) => phase))]

/** One of the two methods, with its options as the method itself describes them. */
export function MethodPanel({ title, setup, at, onChange }: MethodPanelProps): ReactElement {
  const { id, options } = setup.methods[at]
  const definition = definitionOf(id)
  const facts = factsOf(setup)
  const reason = whyNot(definition, facts)
  const { citation } = definition
  return (
    <Fieldset legend={title}>
      <div className={classes.stack}>
        <NativeSelect
          label="Method"
          data={phases.map((phase) => ({
            group: phase === 'any' ? 'baseline' : phase,
            items: definitions
              .filter((each) => each.phase === phase)
              .map((each) => {
                const not = whyNot(each, facts)
                return { value: each.id, label: not ? `${each.id} (${not})` : each.id }
              }),
          }))}
          value={id}
          error={reason && `With these tensors it does not run: ${reason}.`}
          onChange={(event) => onChange(at, { id: event.currentTarget.value, options: {} })}
        />
        <Text size="sm">
          {definition.summary}{' '}
          <Anchor href={citation.url} target="_blank" rel="noreferrer" underline="always">
            {citation.authors.split(',')[0]} {citation.year}
          </Anchor>
        </Text>
        <OptionFields
          specs={definition.options}
          usual={definition.scaled(facts.keyLength) as Chosen['options']}
          chosen={options}
          onChange={(next) => onChange(at, { id, options: next })}
        />
      </div>
    </Fieldset>
  )
}
