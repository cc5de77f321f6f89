import { NumberInput, TextInput } from '@mantine/core'
import type { ReactElement } from 'react'
import { ifNumber } from '../shell/if-number.js'
import classes from './chat.module.css'
import type { Sampling } from './requests.js'

export interface WritingOptions {
  readonly newTokens: number
  readonly stopAt: string
  readonly sampling: Sampling
}

export interface SamplingFieldsProps {
  readonly options: WritingOptions
  readonly disabled: boolean
  readonly onChange: (options: WritingOptions) => void
}

/** How much is written, and how tokens are chosen. */
export function SamplingFields({ options, disabled, onChange }: SamplingFieldsProps): ReactElement {
  const { newTokens, stopAt, sampling } = options
  const set = (part: Partial<Sampling>): void => onChange({ ...options, sampling: { ...sampling, ...part } })
  return (
    <fieldset className={classes.group} disabled={disabled}>
      <legend>Writing</legend>
      <div className={classes.fields}>
        <NumberInput
          label="New tokens"
          min={1}
          max={4096}
          allowDecimal={false}
          value={newTokens}
          onChange={ifNumber((value) => onChange({ ...options, newTokens: value }))}
        />
        <NumberInput
          label="Temperature"
          description="0: always the likeliest"
          min={0}
          max={4}
          step={0.1}
          value={sampling.temperature}
          onChange={ifNumber((temperature) => set({ temperature }))}
        />
        <NumberInput
          label="Top-k"
          description="0: all"
          min={0}
          max={4096}
          allowDecimal={false}
          value={sampling.topK}
          onChange={ifNumber((topK) => set({ topK }))}
        />
        <NumberInput
          label="Top-p"
          description="1: all"
          min={0.01}
          max={1}
          step={0.05}
          value={sampling.topP}
          onChange={ifNumber((topP) => set({ topP }))}
        />
        <NumberInput
          label="Seed"
          min={0}
          max={4294967295}
          allowDecimal={false}
          value={sampling.seed}
          onChange={ifNumber((seed) => set({ seed }))}
        />
        <TextInput
          label="Stop at"
          description="a text, such as a word"
          value={stopAt}
          onChange={({ currentTarget }) => onChange({ ...options, stopAt: currentTarget.value })}
        />
      </div>
    </fieldset>
  )
}
