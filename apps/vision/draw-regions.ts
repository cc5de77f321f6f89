import type { Rectangle } from '@sparse-attention/models'

/** What a canvas shows of one region that asks. */
export interface RegionsDrawing {
  /** The picture, or the part of it in `seen`. */
  readonly image: CanvasImageSource
  readonly seen: Rectangle
  readonly down: number
  readonly across: number
  /** Region that asks. */
  readonly asking: number
  /** f64[R]: how far each region is attended to, 0 to 1. */
  readonly shares: Float64Array
  /** f64[R]: attention that each region gets from exact attention. */
  readonly mass: Float64Array
}

type Context = CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D

/** What is left out is covered as far as it is left out, so that a picture of any brightness shows it. */
export const veilOpacity = 0.72
const veil = '#101820'
const attendedColor = '#4dabf7'
export const askingColor = '#ff6b35'

/** Draws what the network sees of a picture, as a square. */
export function drawPhoto(
  context: Context,
  { image, seen }: Pick<RegionsDrawing, 'image' | 'seen'>,
  left: number,
  top: number,
  size: number,
): void {
  // Under pictures with transparent parts, as the network sees them.
  context.fillStyle = '#ffffff'
  context.fillRect(left, top, size, size)
  context.imageSmoothingQuality = 'high'
  context.drawImage(image, seen.left, seen.top, seen.width, seen.height, left, top, size, size)
}

/** Draws a square: the picture, what the region that asks attends to, and how much of its attention is there. */
export function drawRegions(context: Context, drawing: RegionsDrawing, left: number, top: number, size: number): void {
  const { down, across, asking, shares, mass } = drawing
  context.save()
  drawPhoto(context, drawing, left, top, size)
  const [width, height] = [size / across, size / down]
  const line = Math.max(1, size / 240)
  const cell = (region: number) =>
    [left + (region % across) * width, top + Math.floor(region / across) * height] as const

  for (let region = 0; region < down * across; region++) {
    const [x, y] = cell(region)
    const share = Math.min(1, shares[region]!)
    context.globalAlpha = veilOpacity * (1 - share)
    context.fillStyle = veil
    context.fillRect(x, y, width, height)
    context.globalAlpha = 1
    if (share === 0) continue
    context.strokeStyle = attendedColor
    context.lineWidth = line * (0.5 + 1.5 * share)
    context.strokeRect(x + line, y + line, width - 2 * line, height - 2 * line)
    label(context, percent(mass[region]!), x + width / 2, y + height - size / 48, size / 32)
  }
  const [x, y] = cell(asking)
  context.strokeStyle = askingColor
  context.lineWidth = 3 * line
  context.strokeRect(x + 1.5 * line, y + 1.5 * line, width - 3 * line, height - 3 * line)
  context.restore()
}

/** White with a dark edge, to be read over any picture. */
function label(context: Context, text: string, x: number, y: number, size: number): void {
  context.font = `600 ${Math.max(10, size)}px system-ui, sans-serif`
  context.textAlign = 'center'
  context.textBaseline = 'bottom'
  context.lineJoin = 'round'
  context.lineWidth = Math.max(3, size / 4)
  context.strokeStyle = '#000000'
  context.strokeText(text, x, y)
  context.fillStyle = '#ffffff'
  context.fillText(text, x, y)
}

export function percent(share: number): string {
  return `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`
}
