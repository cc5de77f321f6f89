import { SparseAttentionError } from '@sparse-attention/core'
import type { Video } from '@sparse-attention/models'
import { loadSharp } from './plan-picture.js'
import { textPath, textWidth } from './text.js'

export interface VideoPicture {
  /** First line, in large letters. */
  readonly title: string
  readonly subtitle?: string
  /** All of one size. */
  readonly panels: readonly VideoPanel[]
}

/** One video and what stands over it. */
export interface VideoPanel {
  readonly label: string
  /** A line below the label. */
  readonly detail?: string
  readonly video: Video
}

const paper = '#ffffff'
const ink = '#1b2430'
const faint = '#5c6773'

const titleSize = 18
const textSize = 13
const lineHeight = 18
/** Of two lines over a video. */
const captionHeight = 2 * lineHeight + 4
const panelsInRow = 4
const margin = 20
const gap = 14
/** Pixels are enlarged whole times, to about so wide a panel. */
const panelTarget = { animation: 240, strip: 96 }

/**
 * The videos side by side, four in a row, as one animated WebP that starts again at its end.
 *
 * @throws INVALID_ARGUMENT without a panel or with videos of different sizes, MISSING_DEPENDENCY without sharp
 */
export async function videoAnimation(
  picture: VideoPicture,
  { framesPerSecond = 8, quality = 90 }: { readonly framesPerSecond?: number; readonly quality?: number } = {},
): Promise<Buffer> {
  const sharp = await loadSharp()
  const { frames, height, width } = sizeOf(picture.panels)
  const factor = Math.max(1, Math.round(panelTarget.animation / width))
  const head = headOf(picture)
  const columns = Math.min(picture.panels.length, panelsInRow)
  const [stepX, stepY] = [width * factor + gap, captionHeight + height * factor + gap]
  const placed = picture.panels.map((panel, i) => ({
    panel,
    left: margin + (i % columns) * stepX,
    top: head.bottom + Math.floor(i / columns) * stepY,
  }))
  const [right, bottom] = [margin + columns * stepX - gap, placed.at(-1)!.top + stepY - gap]
  const page = await drawPage(Math.max(right, head.right) + margin, bottom + margin, [
    head.svg,
    ...placed.map(({ panel, left, top }) => caption(panel, left, top)),
  ])
  const pages = Array.from({ length: frames }, (_, frame) => {
    const pixels = Buffer.from(page.pixels)
    for (const { panel, left, top } of placed) {
      enlarge(panel.video, frame, factor, pixels, page.width, left, top + captionHeight)
    }
    return pixels
  })
  const raw = { width: page.width, height: page.height * frames, channels: 3 as const, pageHeight: page.height }
  return sharp(Buffer.concat(pages), { raw })
    .webp({ loop: 0, delay: pages.map(() => Math.round(1000 / framesPerSecond)), quality })
    .toBuffer()
}

/**
 * Frames from the first to the last next to each other, one video below the other, as a PNG.
 *
 * @param columns frames of each video, at most
 * @throws as `videoAnimation`
 */
export async function videoStrip(picture: VideoPicture, columns = 8): Promise<Buffer> {
  const sharp = await loadSharp()
  const { frames, height, width } = sizeOf(picture.panels)
  const factor = Math.max(1, Math.round(panelTarget.strip / width))
  const shown = Math.min(columns, frames)
  const head = headOf(picture)
  const rowHeight = captionHeight + height * factor + gap
  const placed = picture.panels.map((panel, i) => ({ panel, top: head.bottom + i * rowHeight }))
  const right = margin + shown * (width * factor + 2) - 2
  const page = await drawPage(
    Math.max(right, head.right) + margin,
    head.bottom + placed.length * rowHeight + margin - gap,
    [head.svg, ...placed.map(({ panel, top }) => caption(panel, margin, top))],
  )
  for (const { panel, top } of placed) {
    for (let i = 0; i < shown; i++) {
      const frame = shown === 1 ? 0 : Math.round((i * (frames - 1)) / (shown - 1))
      const left = margin + i * (width * factor + 2)
      enlarge(panel.video, frame, factor, page.pixels, page.width, left, top + captionHeight)
    }
  }
  const raw = { width: page.width, height: page.height, channels: 3 as const }
  return sharp(page.pixels, { raw }).png({ palette: false }).toBuffer()
}

function sizeOf(panels: readonly VideoPanel[]): Video {
  const [first] = panels
  const fits = ({ video }: VideoPanel) =>
    video.frames === first!.video.frames && video.height === first!.video.height && video.width === first!.video.width
  if (first && panels.every(fits)) return first.video
  throw new SparseAttentionError('INVALID_ARGUMENT', {
    message: first ? 'The videos of a picture differ in size.' : 'A picture of no videos was asked for.',
    fix: 'Pass at least one video, all of one size.',
    where: 'panels',
  })
}

/** Title and subtitle, and where they end. */
function headOf({ title, subtitle }: VideoPicture): { svg: string; right: number; bottom: number } {
  const first = margin + titleSize
  const svg = textPath(title, margin, first - 3, { size: titleSize, fill: ink })
  const right = margin + Math.max(textWidth(title, titleSize), textWidth(subtitle ?? '', textSize))
  if (subtitle === undefined) return { svg, right, bottom: first + 10 }
  const second = first + lineHeight
  return {
    svg: svg + textPath(subtitle, margin, second, { size: textSize, fill: faint }),
    right,
    bottom: second + 12,
  }
}

function caption({ label, detail }: VideoPanel, left: number, top: number): string {
  const first = textPath(label, left, top + textSize, { size: textSize, fill: ink })
  return detail === undefined
    ? first
    : first + textPath(detail, left, top + textSize + lineHeight, { size: textSize, fill: faint })
}

/** The page without its videos: red, green and blue, row by row. */
async function drawPage(
  width: number,
  height: number,
  shapes: readonly string[],
): Promise<{ pixels: Buffer; width: number; height: number }> {
  const sharp = await loadSharp()
  const [w, h] = [Math.ceil(width), Math.ceil(height)]
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${w}" height="${h}"><rect width="100%" height="100%" fill="${paper}"/>${shapes.join('')}</svg>`
  return { pixels: await sharp(Buffer.from(svg)).removeAlpha().raw().toBuffer(), width: w, height: h }
}

/** Draws a frame, every pixel as a square. */
function enlarge(
  { height, width, pixels }: Video,
  frame: number,
  factor: number,
  page: Buffer,
  pageWidth: number,
  left: number,
  top: number,
): void {
  for (let y = 0; y < height * factor; y++) {
    const row = (frame * height + Math.floor(y / factor)) * width
    for (let x = 0; x < width * factor; x++) {
      const from = (row + Math.floor(x / factor)) * 3
      const to = ((top + y) * pageWidth + left + x) * 3
      for (let c = 0; c < 3; c++) page[to + c] = Math.round(255 * pixels[from + c]!)
    }
  }
}
