import { Button, Checkbox, NativeSelect, NumberInput, Text } from '@mantine/core'
import { describeScene, randomScene, type VideoSize } from '@sparse-attention/models'
import { type FormEvent, type ReactElement, useState } from 'react'
import { ifNumber } from '../shell/if-number.js'
import { OptionFields, type OptionValues } from '../shell/OptionFields.js'
import shell from '../shell/shell.module.css'
import { SceneFields, sceneOf } from './SceneFields.js'
import type { MakeRequest, StudioInfo } from './studio.js'
import classes from './video.module.css'

export interface ControlsProps {
  readonly info: StudioInfo
  readonly running: boolean
  readonly onMake: (request: MakeRequest) => void
}

/** What to make, and how. */
export function Controls({ info, running, onMake }: ControlsProps): ReactElement {
  const { defaults, methods } = info
  const [seed, setSeed] = useState(1)
  const [text, setText] = useState(() => describeScene(randomScene(1)))
  const [size, setSize] = useState<VideoSize>(defaults.size)
  const [steps, setSteps] = useState(defaults.steps)
  const [guidance, setGuidance] = useState(defaults.guidance)
  const [id, setId] = useState(methods[0]!.id)
  const [chosen, setChosen] = useState<OptionValues>({})
  const [caches, setCaches] = useState(false)
  const [threshold, setThreshold] = useState(0.1)
  const [looks, setLooks] = useState(true)
  const method = methods.find((each) => each.id === id)!
  const scene = sceneOf(text)

  const submit = (event: FormEvent): void => {
    event.preventDefault()
    if (running || typeof scene === 'string') return
    const cached = caches && { stepCache: threshold }
    onMake({ scene, size, steps, guidance, seed, method: id, options: chosen, looks, ...cached })
  }

  return (
    <form className={shell.stack} onSubmit={submit} aria-label="What to make">
      <SceneFields text={text} onText={setText} seed={seed} onSeed={setSeed} disabled={running} />
      <NativeSelect
        label="Size"
        data={info.sizes.map(({ size, grid, tokens }) => ({
          value: size,
          // A patch is 2 frames of 2 × 2 pixels.
          label: `${tokens.toLocaleString('en-US')} tokens: ${2 * grid[0]} frames of ${2 * grid[2]} × ${2 * grid[1]}`,
        }))}
        value={size}
        onChange={(event) => setSize(event.currentTarget.value as VideoSize)}
        disabled={running}
      />
      <div className={classes.fields}>
        <NumberInput
          label="Steps"
          value={steps}
          onChange={ifNumber(setSteps)}
          min={1}
          max={100}
          allowDecimal={false}
          clampBehavior="strict"
          disabled={running}
        />
        <NumberInput
          label="Guidance"
          description="1: none"
          value={guidance}
          onChange={ifNumber(setGuidance)}
          min={0}
          max={20}
          step={0.5}
          clampBehavior="strict"
          disabled={running}
        />
      </div>
      <NativeSelect
        label="Method of the sparse video"
        description={method.summary}
        data={methods.map(({ id, title }) => ({ value: id, label: title }))}
        value={id}
        onChange={(event) => {
          setId(event.currentTarget.value)
          setChosen({})
        }}
        disabled={running}
      />
      <details>
        <summary>Options of {method.title}</summary>
        <OptionFields
          specs={method.options}
          usual={method.scaled[size]}
          chosen={chosen}
          onChange={setChosen}
          disabled={running}
        />
      </details>
      <Checkbox
        label="Step cache"
        description="Reuses what the model said where the step changes little"
        checked={caches}
        onChange={(event) => setCaches(event.currentTarget.checked)}
        disabled={running}
      />
      {caches && (
        <NumberInput
          label="Change up to which it is reused"
          value={threshold}
          onChange={ifNumber(setThreshold)}
          min={0}
          max={10}
          step={0.05}
          disabled={running}
        />
      )}
      <Checkbox
        label="Skip maps"
        description="Reads what every attention skips, and times it. Without, whole videos are timed as they would run."
        checked={looks}
        onChange={(event) => setLooks(event.currentTarget.checked)}
        disabled={running}
      />
      <div>
        <Button type="submit" disabled={running || typeof scene === 'string'}>
          Make both videos
        </Button>
      </div>
      <Text size="sm">Attention computes in {info.dtype}, everything else in f32.</Text>
    </form>
  )
}
