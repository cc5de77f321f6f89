import { type Frames, frameAt } from '../frames.js'

/** A video in the picture, with its name below. */
export interface Panel {
  readonly label: string
  readonly frames: Frames
}

/** Where panels lie in the picture, in pixels. Every size is even, as video codecs want it. */
export interface Layout {
  readonly width: number
  readonly height: number
  /** Edge of a pixel of the model. */
  readonly scale: number
  readonly panels: readonly { readonly left: number; readonly width: number; readonly height: number }[]
}

/** About so large is a panel: the model's videos are 16 to 64 pixels wide. */
const panelSize = 256
const gap = 16
const labelHeight = 32

export function layoutOf(panels: readonly Panel[]): Layout {
  const { width, height } = panels[0]!.frames
  const scale = 2 * Math.max(1, Math.round(panelSize / Math.max(width, height) / 2))
  const each = { width: width * scale, height: height * scale }
  return {
    scale,
    width: panels.length * each.width + (panels.length - 1) * gap,
    height: each.height + labelHeight,
    panels: panels.map((_, i) => ({ left: i * (each.width + gap), ...each })),
  }
}

/** Draws one frame of every panel, its pixels as squares, with its top at `top`. */
export function drawFrame(
  context: OffscreenCanvasRenderingContext2D,
  panels: readonly Panel[],
  layout: Layout,
  index: number,
  top = 0,
): void {
  context.fillStyle = '#ffffff'
  context.fillRect(0, top, layout.width, layout.height)
  context.imageSmoothingEnabled = false
  context.font = '600 18px system-ui, sans-serif'
  context.textBaseline = 'middle'
  for (const [i, { label, frames }] of panels.entries()) {
    const { left, width, height } = layout.panels[i]!
    const small = new OffscreenCanvas(frames.width, frames.height)
    const image = new ImageData(frameAt(frames, index), frames.width, frames.height)
    small.getContext('2d')!.putImageData(image, 0, 0)
    context.drawImage(small, left, top, width, height)
    context.fillStyle = '#1a1b1e'
    context.fillText(label, left + 4, top + height + labelHeight / 2, width - 8)
  }
}
