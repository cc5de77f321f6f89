import type { Rectangle } from '@sparse-attention/models'
import { type KeyboardEvent, type ReactElement, useEffect, useRef } from 'react'
import { drawPhoto, drawRegions, percent, type RegionsDrawing } from './draw-regions.js'
import { neighbour } from './routes-view.js'
import classes from './vision.module.css'

/** Pixels of a side of the canvas: sharp on screens of two pixels a point. */
const canvasSize = 960

/** A photo that has not been looked at yet. */
export function PhotoCanvas({
  image,
  seen,
  name,
}: {
  image: ImageBitmap
  seen: Rectangle
  name: string
}): ReactElement {
  const canvas = useRef<HTMLCanvasElement>(null)
  useEffect(() => drawPhoto(canvas.current!.getContext('2d')!, { image, seen }, 0, 0, canvasSize), [image, seen])
  return (
    <div className={classes.photo}>
      <canvas ref={canvas} width={canvasSize} height={canvasSize} role="img" aria-label={`Photo: ${name}`} />
    </div>
  )
}

export interface RegionGridProps {
  readonly drawing: RegionsDrawing
  readonly onAsk: (region: number) => void
}

/** The photo with its regions, of which one asks: a click or an arrow key chooses it. */
export function RegionGrid({ drawing, onAsk }: RegionGridProps): ReactElement {
  const { down, across, asking, shares, mass } = drawing
  const canvas = useRef<HTMLCanvasElement>(null)
  const table = useRef<HTMLTableElement>(null)
  useEffect(() => drawRegions(canvas.current!.getContext('2d')!, drawing, 0, 0, canvasSize), [drawing])

  const move = (event: KeyboardEvent) => {
    const next = neighbour(drawing, asking, event.key)
    if (next === undefined) return
    event.preventDefault()
    onAsk(next)
    table.current!.querySelectorAll('button')[next]!.focus()
  }
  const describe = (region: number) => {
    const share = shares[region]!
    const attended =
      share === 1 ? 'attended to' : share === 0 ? 'left out' : `attended to by ${percent(share)} of the heads`
    return `${nameRegion(region, across)}: ${attended}, ${percent(mass[region]!)} of the attention`
  }
  // First regions.
  const rows = Array.from({ length: down }, (_, row) => row * across)
  return (
    <div className={classes.photo}>
      <canvas ref={canvas} width={canvasSize} height={canvasSize} />
      <table
        ref={table}
        className={classes.cells}
        aria-label="Regions of the photo; arrow keys choose the one that asks"
      >
        <tbody>
          {rows.map((first) => (
            <tr key={first}>
              {Array.from({ length: across }, (_, column) => {
                const region = first + column
                return (
                  <td key={nameRegion(region, across)}>
                    <button
                      type="button"
                      tabIndex={region === asking ? 0 : -1}
                      aria-pressed={region === asking}
                      aria-label={describe(region)}
                      data-region={region}
                      data-share={shares[region]}
                      onClick={() => onAsk(region)}
                      onKeyDown={move}
                    />
                  </td>
                )
              })}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  )
}

/** Rows and columns from 1, as people count. */
export function nameRegion(region: number, across: number): string {
  return `Row ${Math.floor(region / across) + 1}, column ${(region % across) + 1}`
}
