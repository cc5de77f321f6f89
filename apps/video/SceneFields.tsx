import { Button, NativeSelect, NumberInput, TextInput } from '@mantine/core'
import { describeScene, randomScene, type SceneCode, sceneWords } from '@sparse-attention/models'
import type { ReactElement } from 'react'
import { ifNumber } from '../shell/if-number.js'
import shell from '../shell/shell.module.css'
import { readScene } from './scene-text.js'
import classes from './video.module.css'

export interface SceneFieldsProps {
  /** As it was written: words or numbers. */
  readonly text: string
  readonly onText: (text: string) => void
  readonly seed: number
  readonly onSeed: (seed: number) => void
  readonly disabled: boolean
}

const parts = [
  { label: 'Shape', words: sceneWords.shapes },
  { label: 'Colour', words: sceneWords.colours },
  { label: 'Direction', words: sceneWords.directions },
] as const

/** What the video shows: in words, from lists, or by the seed, which also chooses the noise. */
export function SceneFields({ text, onText, seed, onSeed, disabled }: SceneFieldsProps): ReactElement {
  const scene = sceneOf(text)
  const code = typeof scene === 'string' ? undefined : scene
  const choose = (part: number, value: string): void => {
    const next = [...(code ?? ([0, 0, 0] as const))] as [number, number, number]
    next[part] = Number(value)
    onText(describeScene(next))
  }
  return (
    <>
      <TextInput
        label="Scene"
        description="Colour, shape and direction, or their numbers"
        value={text}
        onChange={(event) => onText(event.currentTarget.value)}
        error={typeof scene === 'string' ? scene : undefined}
        disabled={disabled}
        data-testid="scene"
      />
      <div className={classes.fields}>
        {parts.map(({ label, words }, part) => (
          <NativeSelect
            key={label}
            label={label}
            data={words.map((word, i) => ({ value: String(i), label: word }))}
            value={String(code?.[part] ?? 0)}
            onChange={(event) => choose(part, event.currentTarget.value)}
            disabled={disabled}
          />
        ))}
      </div>
      <div className={shell.row}>
        <NumberInput
          label="Seed"
          description="Chooses the noise: both videos start from the same"
          value={seed}
          onChange={ifNumber(onSeed)}
          min={0}
          max={2 ** 31 - 1}
          allowDecimal={false}
          disabled={disabled}
        />
        <Button variant="default" disabled={disabled} onClick={() => onText(describeScene(randomScene(seed)))}>
          Scene of this seed
        </Button>
        <Button
          variant="default"
          disabled={disabled}
          onClick={() => {
            const next = Math.floor(Math.random() * 1e6)
            onSeed(next)
            onText(describeScene(randomScene(next)))
          }}
        >
          Random
        </Button>
      </div>
    </>
  )
}

/** The scene, or why the text is none. */
export function sceneOf(text: string): SceneCode | string {
  try {
    return readScene(text)
  } catch (error) {
    return (error as Error).message
  }
}
