import {
  Checkbox,
  Fieldset,
  FileInput,
  NativeSelect,
  NumberInput,
  SegmentedControl,
  Text,
  TextInput,
} from '@mantine/core'
import { Dropzone } from '@mantine/dropzone'
import '@mantine/dropzone/styles.css'
import { inputKinds } from '@sparse-attention/compare'
import type { ReactElement } from 'react'
import type { Client } from '../shell/connect.js'
import { formatBytes } from '../shell/format.js'
import { ifNumber } from '../shell/if-number.js'
import { JobStatus } from '../shell/JobStatus.js'
import classes from '../shell/shell.module.css'
import { useJob } from '../shell/use-job.js'
import { type FoundFile, type Origin, parseGrid, type Setup, withGrid } from './setup.js'
import type { Api } from './worker.js'

export interface InputFieldsProps {
  readonly setup: Setup
  readonly onChange: (setup: Setup) => void
  readonly client: Client<Api>
}

const origins: readonly { readonly value: Origin; readonly label: string }[] = [
  { value: 'made-up', label: 'Made up' },
  { value: 'captured', label: 'From a model' },
  { value: 'file', label: 'From a file' },
]

/** Which tensors. */
export function InputFields(props: InputFieldsProps): ReactElement {
  const { setup, onChange } = props
  return (
    <Fieldset legend="Tensors">
      <div className={classes.stack}>
        <SegmentedControl
          fullWidth
          aria-label="Where they come from"
          data={[...origins]}
          value={setup.origin}
          onChange={(origin) => onChange({ ...setup, origin: origin as Origin, gridText: '' })}
        />
        {setup.origin === 'made-up' && <MadeUp {...props} />}
        {setup.origin === 'captured' && <Captured {...props} />}
        {setup.origin === 'file' && <FromFile {...props} />}
      </div>
    </Fieldset>
  )
}

type Sizes = 'queryLength' | 'keyLength' | 'queryHeads' | 'kvHeads' | 'headDim' | 'seed' | 'capturedLength' | 'layer'

function Size({
  setup,
  onChange,
  name,
  label,
  min = 1,
  max,
  step = 1,
}: Pick<InputFieldsProps, 'setup' | 'onChange'> & {
  readonly name: Sizes
  readonly label: string
  readonly min?: number
  readonly max: number
  readonly step?: number
}): ReactElement {
  return (
    <NumberInput
      label={label}
      value={setup[name]}
      min={min}
      max={max}
      step={step}
      allowDecimal={false}
      clampBehavior="blur"
      onChange={ifNumber((value) => value >= min && onChange({ ...setup, [name]: value }))}
    />
  )
}

function MadeUp({ setup, onChange }: InputFieldsProps): ReactElement {
  const props = { setup, onChange }
  return (
    <>
      <NativeSelect
        label="Pattern"
        description="stripes and bands: few keys that matter; patches: neighbours on a grid have something in common"
        data={[...inputKinds]}
        value={setup.kind}
        onChange={(event) => onChange({ ...setup, kind: event.currentTarget.value as Setup['kind'] })}
      />
      <Size {...props} name="queryLength" label="Queries" max={65536} step={64} />
      <Size {...props} name="keyLength" label="Keys" max={65536} step={64} />
      <Size {...props} name="queryHeads" label="Query heads" max={128} />
      <Size {...props} name="kvHeads" label="KV heads" max={128} />
      <Size {...props} name="headDim" label="Head dim" min={8} max={256} step={8} />
      <NativeSelect
        label="Precision"
        data={['f32', 'f16']}
        value={setup.dtype}
        onChange={(event) => onChange({ ...setup, dtype: event.currentTarget.value as Setup['dtype'] })}
      />
      <Size {...props} name="seed" label="Seed" min={0} max={2 ** 31} />
      <Causal {...props} />
      <Grid {...props} />
    </>
  )
}

function Captured({ setup, onChange }: InputFieldsProps): ReactElement {
  const props = { setup, onChange }
  return (
    <>
      <Text size="sm">
        Queries, keys and values of bookworm-9m while it reads a stretch of “Pride and Prejudice”. The model (9.7 MB)
        and onnxruntime-web (27 MB) are loaded when you compare.
      </Text>
      <Size {...props} name="capturedLength" label="Tokens" min={64} max={setup.model.maxLength} step={64} />
      <Size {...props} name="layer" label="Layer" min={0} max={setup.model.layers - 1} />
      <Size {...props} name="seed" label="Seed of the stretch" min={0} max={2 ** 31} />
    </>
  )
}

function FromFile({ setup, onChange, client }: InputFieldsProps): ReactElement {
  const job = useJob<FoundFile>()
  const take = (file: File | null | undefined): void => {
    if (!file) return
    onChange({ ...setup, file: undefined, found: undefined })
    job.run(async ({ signal, report }) => {
      const input = { from: 'file', file, causal: setup.causal, grid: undefined } as const
      const found = await client.call('inspect', input, { signal, onReport: report })
      onChange({ ...setup, file, found })
      return found
    })
  }
  const { file, found } = setup
  return (
    <>
      <FileInput label="safetensors file" description="with q [B,H,Lq,D], k and v [B,Hkv,Lk,D]" onChange={take} />
      <Dropzone onDrop={(files) => take(files[0])} multiple={false} aria-label="Drop a safetensors file here" py="md">
        <Text ta="center">or drop it here</Text>
      </Dropzone>
      <JobStatus job={job} />
      {file && found && (
        <Text size="sm" data-testid="found-file">
          {file.name}, {formatBytes(file.size)}: batch {found.batch}, {found.queryHeads} query heads over{' '}
          {found.kvHeads}, {found.queryLength} queries, {found.keyLength} keys, head_dim {found.headDim}, {found.dtype}
        </Text>
      )}
      <Causal setup={setup} onChange={onChange} />
      <Grid setup={setup} onChange={onChange} />
    </>
  )
}

function Causal({ setup, onChange }: Pick<InputFieldsProps, 'setup' | 'onChange'>): ReactElement {
  return (
    <Checkbox
      label="Causal"
      checked={setup.causal}
      onChange={(event) => onChange({ ...setup, causal: event.currentTarget.checked })}
    />
  )
}

function Grid({ setup, onChange }: Pick<InputFieldsProps, 'setup' | 'onChange'>): ReactElement {
  const bad = parseGrid(setup.gridText) === null
  return (
    <TextInput
      label="Token grid"
      description="for methods of images and videos: 16x16, or frames first, 4x8x8"
      value={setup.gridText}
      error={bad ? 'Write two or three sizes, such as 16x16.' : undefined}
      onChange={(event) => onChange(withGrid(setup, event.currentTarget.value))}
    />
  )
}
