import { Button, NativeSelect, NumberInput } from '@mantine/core'
import type { ImageClassifierConfig } from '@sparse-attention/models'
import { type ReactElement, useState } from 'react'
import type { RoutingSettings } from './photo-classifier.js'
import classes from './vision.module.css'

export interface RoutingOptionsProps {
  readonly config: ImageClassifierConfig
  readonly settings: RoutingSettings
  /** Those that the model was trained with. */
  readonly trained: RoutingSettings
  readonly disabled: boolean
  readonly onChange: (settings: RoutingSettings) => void
}

/** k of each stage that routes, and whether heads route together. */
export function RoutingOptions({ config, settings, trained, disabled, onChange }: RoutingOptionsProps): ReactElement {
  const changed = JSON.stringify(settings) !== JSON.stringify(trained)
  return (
    <fieldset className={classes.options} disabled={disabled}>
      <legend>Routing</legend>
      <div className={classes.fields}>
        {config.stages.map(({ routing, grid }, stage) => {
          if (!routing) return null
          return (
            <RegionCount
              key={grid.join('×')}
              label={`k, stage ${stage + 1}`}
              routing={routing}
              value={settings.topK[stage]!}
              onChange={(k) => onChange({ ...settings, topK: settings.topK.with(stage, k) })}
            />
          )
        })}
        <NativeSelect
          label="Heads"
          description="route; trained: together"
          data={[
            { value: 'shared', label: 'together' },
            { value: 'per-head', label: 'separately' },
          ]}
          value={settings.routing}
          onChange={(event) =>
            onChange({ ...settings, routing: event.currentTarget.value as RoutingSettings['routing'] })
          }
        />
      </div>
      {changed && (
        <Button variant="subtle" size="compact-sm" mt="xs" onClick={() => onChange(trained)}>
          As trained
        </Button>
      )}
    </fieldset>
  )
}

interface RegionCountProps {
  readonly label: string
  readonly routing: { readonly regions: number; readonly topK: number }
  readonly value: number
  readonly onChange: (k: number) => void
}

function RegionCount({ label, routing, value, onChange }: RegionCountProps): ReactElement {
  // What is no number while somebody types: an empty field.
  const [typed, setTyped] = useState<string>()
  const most = routing.regions ** 2
  return (
    <NumberInput
      label={label}
      description={`of ${most}; trained: ${routing.topK}`}
      min={1}
      max={most}
      clampBehavior="strict"
      allowDecimal={false}
      value={typed ?? value}
      onChange={(entered) => {
        const k = Number(entered)
        setTyped(k >= 1 ? undefined : String(entered))
        if (k >= 1) onChange(k)
      }}
      onBlur={() => setTyped(undefined)}
    />
  )
}
