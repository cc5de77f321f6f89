import { NativeSelect, Text, Title, useComputedColorScheme } from '@mantine/core'
import { type ReactElement, useEffect, useRef, useState } from 'react'
import { drawShares } from '../shell/draw-shares.js'
import { formatShare } from '../shell/format.js'
import shell from '../shell/shell.module.css'
import type { Branch, LayerLook, StepLook } from './look.js'
import type { SkipMap } from './skip-map.js'
import classes from './video.module.css'

export interface SkipMapViewProps {
  /** Of the step that is shown; undefined where none was looked at yet. */
  readonly look: StepLook | undefined
  /** From 1. */
  readonly step: number
  readonly layers: number
  readonly heads: number
  /** With guidance there are two branches. */
  readonly branches: readonly Branch[]
}

const count = (length: number): { value: string; label: string }[] =>
  Array.from({ length }, (_, i) => ({ value: String(i), label: String(i + 1) }))

/** Which pairs of tokens the sparse video's attention computed in a step, by layer and head. */
export function SkipMapView({ look, step, layers, heads, branches }: SkipMapViewProps): ReactElement {
  const [layer, setLayer] = useState(0)
  const [head, setHead] = useState(0)
  const [branch, setBranch] = useState<Branch>('conditional')
  const chosenBranch = branches.includes(branch) ? branch : branches[0]!
  const found = look?.layers.find((each) => each.layer === layer && each.branch === chosenBranch)
  const shown = Math.min(head, (found?.map.heads ?? heads) - 1)
  return (
    <section className={shell.stack} aria-labelledby="skip-map-title">
      <Title order={2} size="h4" id="skip-map-title">
        Skip map
      </Title>
      <div className={classes.maps}>
        <div className={shell.stack}>
          <div className={classes.fields}>
            <NativeSelect
              label="Layer"
              data={count(layers)}
              value={String(layer)}
              onChange={(event) => setLayer(Number(event.currentTarget.value))}
            />
            <NativeSelect
              label="Head"
              data={count(heads)}
              value={String(head)}
              onChange={(event) => setHead(Number(event.currentTarget.value))}
            />
            {branches.length > 1 && (
              <NativeSelect
                label="Pass of guidance"
                data={[
                  { value: 'conditional', label: 'of the scene' },
                  { value: 'unconditional', label: 'of no scene' },
                ]}
                value={chosenBranch}
                onChange={(event) => setBranch(event.currentTarget.value as Branch)}
              />
            )}
          </div>
          {found ? (
            <Figures look={found} head={shown} />
          ) : (
            <Text size="sm">
              {look
                ? 'The model did not run in this step: the step cache reused an earlier answer.'
                : 'Maps appear with the first step of the sparse video, where skip maps are asked for.'}
            </Text>
          )}
        </div>
        {found && (
          <MapCanvas map={found.map} head={shown} label={`step ${step}, layer ${layer + 1}, head ${shown + 1}`} />
        )}
      </div>
    </section>
  )
}

function Figures({ look, head }: { readonly look: LayerLook; readonly head: number }): ReactElement {
  const { map } = look
  const density = look.headDensities[head]!
  const layerDensity = look.keptPairs / look.visiblePairs
  return (
    <>
      <Text size="sm" aria-live="polite">
        <span data-testid="head-density" data-value={density}>
          This head computes {formatShare(density)} of its query–key pairs
        </span>
        ;{' '}
        <span data-testid="layer-density" data-value={layerDensity}>
          the layer {formatShare(layerDensity)}
        </span>
        .
      </Text>
      <Text size="sm">
        Queries from top to bottom, keys from left to right; a cell is {map.rowTokens} × {map.columnTokens} tokens.
      </Text>
      <div className={shell.legend}>
        <span className={shell.kept}>computed</span>
        <span className={shell.skipped}>skipped</span>
      </div>
    </>
  )
}

function MapCanvas({ map, head, label }: { map: SkipMap; head: number; label: string }): ReactElement {
  const canvas = useRef<HTMLCanvasElement>(null)
  const scheme = useComputedColorScheme()
  // biome-ignore lint/correctness/useExhaustiveDependencies: the colours that are read from the page change with the scheme
  useEffect(() => {
    const { rows, columns, shares } = map
    const cells = shares.subarray(head * rows * columns, (head + 1) * rows * columns)
    drawShares(
      canvas.current!,
      Float32Array.from(cells, (share) => share / 255),
      rows,
      columns,
    )
  }, [map, head, scheme])
  return (
    <canvas ref={canvas} className={classes.map} role="img" aria-label={`Skip map: ${label}`} data-testid="skip-map" />
  )
}
