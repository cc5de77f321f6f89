import { Button, Text, useComputedColorScheme } from '@mantine/core'
import type { HostPlan } from '@sparse-attention/core'
import { type KeyboardEvent, type PointerEvent, type ReactElement, useEffect, useMemo, useRef, useState } from 'react'
import { drawShares } from './draw-shares.js'
import { formatShare } from './format.js'
import { type PlanWindow, panned, planHead, wholePlan, windowShares, zoomed } from './plan-grid.js'
import classes from './shell.module.css'

export interface PlanMapProps {
  readonly plan: HostPlan
  /** Counted over the batch: batch · Hq + head. */
  readonly head: number
  /** What the plan is, for those who do not see it: 'xattention, head 3'. */
  readonly label: string
  /** The window, where it is shared with other maps. Default: the map's own. */
  readonly window?: PlanWindow
  readonly onWindow?: (window: PlanWindow) => void
}

/** Most cells of a side: as many as a reader can tell apart. */
const mostCells = 256

/**
 * Which pairs of queries (down) and keys (across) a head computes. Zoom with the wheel, the buttons, or + and −; move by
 * dragging or with the arrow keys; 0 shows all.
 */
export function PlanMap({ plan, head, label, window: given, onWindow }: PlanMapProps): ReactElement {
  const canvas = useRef<HTMLCanvasElement>(null)
  const scheme = useComputedColorScheme()
  const [own, setOwn] = useState(() => wholePlan(plan))
  const window = fitted(plan, given ?? own)
  const setWindow = (next: PlanWindow): void => (onWindow ?? setOwn)(next)

  const rows = useMemo(() => planHead(plan, head), [plan, head])
  const down = Math.min(mostCells, window.endRow - window.firstRow)
  const across = Math.min(mostCells, window.endKey - window.firstKey)
  const { firstRow, endRow, firstKey, endKey } = window
  const shares = useMemo(
    () => windowShares(rows, { firstRow, endRow, firstKey, endKey }, down, across),
    [rows, firstRow, endRow, firstKey, endKey, down, across],
  )

  // biome-ignore lint/correctness/useExhaustiveDependencies: the colours that are read from the page change with the scheme
  useEffect(() => drawShares(canvas.current!, shares.cells, down, across), [shares, down, across, scheme])

  // React's own wheel listener is passive: the page would scroll as well.
  const zoomAt = useRef<(event: WheelEvent) => void>(undefined)
  zoomAt.current = (event) => {
    event.preventDefault()
    const { left, top, width, height } = canvas.current!.getBoundingClientRect()
    const [x, y] = [(event.clientX - left) / width, (event.clientY - top) / height]
    setWindow(zoomed(plan, window, event.deltaY < 0 ? 1.25 : 0.8, x, y))
  }
  useEffect(() => {
    const element = canvas.current!
    const onWheel = (event: WheelEvent): void => zoomAt.current!(event)
    element.addEventListener('wheel', onWheel, { passive: false })
    return () => element.removeEventListener('wheel', onWheel)
  }, [])

  const drag = useRef<{ readonly x: number; readonly y: number; readonly window: PlanWindow }>(undefined)
  const onPointerDown = (event: PointerEvent<HTMLCanvasElement>): void => {
    event.currentTarget.setPointerCapture(event.pointerId)
    drag.current = { x: event.clientX, y: event.clientY, window }
  }
  const onPointerMove = (event: PointerEvent<HTMLCanvasElement>): void => {
    if (!drag.current) return
    const { width, height } = event.currentTarget.getBoundingClientRect()
    const { x, y, window: from } = drag.current
    setWindow(panned(plan, from, (x - event.clientX) / width, (y - event.clientY) / height))
  }
  const endDrag = (): void => {
    drag.current = undefined
  }

  const onKeyDown = (event: KeyboardEvent): void => {
    const next = keyed(plan, window, event.key)
    if (!next || event.ctrlKey || event.metaKey || event.altKey) return
    event.preventDefault()
    setWindow(next)
  }

  const place = `queries ${firstRow}–${endRow - 1}, keys ${firstKey}–${endKey - 1}`
  const summary =
    shares.visiblePairs === 0 ? 'no pair is visible' : `${formatShare(shares.keptPairs / shares.visiblePairs)} kept`
  return (
    <figure className={classes.stack} data-testid="plan-map">
      <canvas
        ref={canvas}
        className={classes.plan}
        tabIndex={0}
        role="img"
        aria-label={`Map of the plan, ${label}: ${place}, ${summary}. Arrow keys move it, plus and minus zoom, zero shows all.`}
        data-window={`${firstRow},${endRow},${firstKey},${endKey}`}
        onKeyDown={onKeyDown}
        onPointerDown={onPointerDown}
        onPointerMove={onPointerMove}
        onPointerUp={endDrag}
        onPointerCancel={endDrag}
      />
      <figcaption className={classes.stack}>
        <Text size="sm" aria-live="polite">
          {label}: {place} — {summary}
        </Text>
        <div className={classes.legend}>
          <span className={classes.kept}>kept</span>
          <span className={classes.skipped}>skipped</span>
          <span className={classes.invisible}>not visible</span>
        </div>
        <Button.Group>
          <Button variant="default" size="xs" onClick={() => setWindow(zoomed(plan, window, 2))}>
            Zoom in
          </Button>
          <Button variant="default" size="xs" onClick={() => setWindow(zoomed(plan, window, 0.5))}>
            Zoom out
          </Button>
          <Button variant="default" size="xs" onClick={() => setWindow(wholePlan(plan))}>
            Show all
          </Button>
        </Button.Group>
      </figcaption>
    </figure>
  )
}

function keyed(plan: HostPlan, window: PlanWindow, key: string): PlanWindow | undefined {
  switch (key) {
    case '+':
    case '=':
      return zoomed(plan, window, 2)
    case '-':
      return zoomed(plan, window, 0.5)
    case '0':
      return wholePlan(plan)
    case 'ArrowLeft':
      return panned(plan, window, -0.25, 0)
    case 'ArrowRight':
      return panned(plan, window, 0.25, 0)
    case 'ArrowUp':
      return panned(plan, window, 0, -0.25)
    case 'ArrowDown':
      return panned(plan, window, 0, 0.25)
    default:
      return undefined
  }
}

/** A window that another, larger plan left behind is cut off at this one's ends. */
function fitted(plan: HostPlan, window: PlanWindow): PlanWindow {
  const fits = window.endRow <= plan.queryLength && window.endKey <= plan.keyLength
  return fits ? window : wholePlan(plan)
}
