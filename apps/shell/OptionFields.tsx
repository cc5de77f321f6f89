import { NativeSelect, NumberInput } from '@mantine/core'
import type { OptionSpec, OptionValue } from '@sparse-attention/core'
import type { ReactElement } from 'react'
import classes from './shell.module.css'

export type OptionValues = Readonly<Record<string, OptionValue>>

export interface OptionFieldsProps {
  /** What a method says of its options. */
  readonly specs: Readonly<Record<string, OptionSpec>>
  /** What holds where nothing is chosen, over the defaults of the specs: a method's budgets for a length. */
  readonly usual: OptionValues
  /** What was chosen. */
  readonly chosen: OptionValues
  readonly onChange: (chosen: OptionValues) => void
  readonly disabled?: boolean
}

/** A field for each option of a method. Options that may be tables are given as one number. */
export function OptionFields({ specs, usual, chosen, onChange, disabled = false }: OptionFieldsProps): ReactElement {
  const set = (name: string, value: OptionValue | undefined): void => {
    const { [name]: _, ...rest } = chosen
    onChange(value === undefined ? rest : { ...rest, [name]: value })
  }
  return (
    <div className={classes.stack}>
      {Object.entries(specs).map(([name, spec]) => {
        const value = chosen[name] ?? usual[name] ?? spec.default
        const common = { label: name, description: spec.description, disabled }
        if (spec.type === 'choice') {
          const chosenOf = (text: string): OptionValue | undefined =>
            spec.choices.find((choice) => String(choice) === text)
          return (
            <NativeSelect
              {...common}
              key={name}
              data={spec.choices.map(String)}
              value={String(value)}
              onChange={(event) => set(name, chosenOf(event.currentTarget.value))}
            />
          )
        }
        return (
          <NumberInput
            {...common}
            key={name}
            value={typeof value === 'object' ? '' : value}
            // While a number is typed ('0.') it is a text, and not a reason to go back to the usual one.
            onChange={(next) => typeof next === 'number' && set(name, next)}
            clampBehavior="blur"
            allowDecimal={!(spec.type === 'number' && spec.integer === true)}
            step={stepOf(spec)}
            {...(spec.min !== undefined && { min: spec.min })}
            {...(spec.max !== undefined && { max: spec.max })}
          />
        )
      })}
    </div>
  )
}

/** Shares go in hundredths, the rest in ones. */
function stepOf(spec: Exclude<OptionSpec, { type: 'choice' }>): number {
  return spec.min !== undefined && spec.max !== undefined && spec.max - spec.min <= 1 ? 0.05 : 1
}
