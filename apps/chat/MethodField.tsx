import { NativeSelect } from '@mantine/core'
import type { MethodFactory } from '@sparse-attention/core'
import type { ReactElement } from 'react'
import { OptionFields } from '../shell/OptionFields.js'
import classes from './chat.module.css'
import type { MethodChoice } from './language-session.js'
import { methodOf } from './methods.js'

export interface MethodFieldProps {
  readonly legend: string
  readonly methods: readonly MethodFactory[]
  /** Its options are those that differ from the budgets for the length. */
  readonly choice: MethodChoice
  /** Tokens that budgets are for. */
  readonly length: number
  readonly disabled: boolean
  readonly onChange: (choice: MethodChoice) => void
}

/** Decided by how the model is loaded: caches have their own page size, and what reads them is not chosen. */
const decided = ['pageSize', 'kernel', 'plan']

/** A method and its options. */
export function MethodField({ legend, methods, choice, length, disabled, onChange }: MethodFieldProps): ReactElement {
  const { definition } = methodOf(choice.id)
  const specs = Object.fromEntries(Object.entries(definition.options).filter(([name]) => !decided.includes(name)))
  return (
    <fieldset className={classes.group} disabled={disabled}>
      <legend>{legend}</legend>
      <NativeSelect
        label="Method"
        description={definition.summary}
        data={methods.map(({ definition: { id, title } }) => ({ value: id, label: title }))}
        value={choice.id}
        onChange={({ currentTarget }) => onChange({ id: currentTarget.value, options: {} })}
      />
      {Object.keys(specs).length > 0 && (
        <details>
          <summary>Options of {definition.title}</summary>
          <OptionFields
            specs={specs}
            usual={usualOptions(choice.id, length)}
            chosen={choice.options}
            disabled={disabled}
            onChange={(options) => onChange({ ...choice, options })}
          />
        </details>
      )}
    </fieldset>
  )
}

/** A method's budgets for a length, as far as they are single values. */
function usualOptions(id: string, length: number): MethodChoice['options'] {
  const scaled = Object.entries(methodOf(id).definition.scaled(length))
  return Object.fromEntries(scaled.filter((entry): entry is [string, number | string] => entry[1] !== undefined))
}

/** What is configured: the budgets for a length, under what was chosen. */
export function withBudgets({ id, options }: MethodChoice, length: number): MethodChoice {
  return { id, options: { ...usualOptions(id, length), ...options } }
}
