import type { Picture, Rectangle } from '@sparse-attention/models'
import type { OverlayOptions } from 'sharp'
import { loadSharp } from './plan-picture.js'
import { textPath, textWidth } from './text.js'

/** What a classifier looked at: its picture, routes of some regions in some layers, and the mass that k regions cover. */
export interface VisionPicture {
  /** First line, in large letters. */
  readonly title: string
  readonly subtitle?: string
  readonly photo: Picture
  /** The part of the photo that the model saw. */
  readonly seen: Rectangle
  /** Regions a side. */
  readonly side: number
  /** Regions that ask, counted row by row. */
  readonly queries: readonly number[]
  /** A row of panels each, and a curve each. */
  readonly layers: readonly VisionPictureLayer[]
}

export interface VisionPictureLayer {
  readonly label: string
  readonly detail: string
  /** [R, R]: share of the pairs of two regions that is computed. */
  readonly kept: Float64Array
  /** Mass in k = 1 … R regions, in the order of the routing, and at best. */
  readonly routed: readonly number[]
  readonly best: readonly number[]
  /** What was computed, in regions a query, and the mass that it has; left out where that is all. */
  readonly point?: { readonly regions: number; readonly mass: number }
}

const paper = '#ffffff'
const ink = '#1b2430'
const faint = '#5c6773'
/** Of query regions, told apart also without colours by their letters. */
const queryColors = ['#e4572e', '#2e86de', '#7fb800', '#b5179e', '#f2a900', '#00a6a6']
/** Of curves. */
const layerColors = ['#1d4e89', '#c1440e', '#3a7d44', '#7b2d8b', '#8a6d00']

const titleSize = 20
const textSize = 13
const lineHeight = 18
const margin = 24
const gap = 16
const photoSize = 300
const panelSize = 150
const chart = { width: 420, height: 250 }

/**
 * A PNG: the photo with its regions, for each layer and chosen region what it attends to, brighter where more of the pairs are
 * computed, and the mass covered against the number of regions k.
 *
 * @throws MISSING_DEPENDENCY without sharp
 */
export async function visionPicture(picture: VisionPicture): Promise<Buffer> {
  const sharp = await loadSharp()
  const { queries, layers } = picture
  const top = margin + titleSize + (picture.subtitle === undefined ? 0 : lineHeight) + gap
  const panelsLeft = margin + photoSize + 2 * gap
  const rowHeight = 2 * lineHeight + panelSize + gap
  const panelsWidth = Math.max(
    queries.length * (panelSize + gap) - gap,
    ...layers.flatMap(({ label, detail }) => [textWidth(label, textSize), textWidth(detail, textSize)]),
  )
  const chartLeft = Math.ceil(panelsLeft + panelsWidth + 3 * gap + 20)
  const legendTop = top + lineHeight + chart.height + 3 * lineHeight
  const bottom = Math.max(
    top + layers.length * rowHeight - gap,
    top + lineHeight + photoSize + 2 * lineHeight,
    legendTop + (layers.length + 2) * lineHeight,
  )
  const width = Math.ceil(Math.max(chartLeft + chart.width, margin + textWidth(picture.title, titleSize)) + margin)
  const height = Math.ceil(bottom + margin)

  const shapes = [textPath(picture.title, margin, margin + titleSize - 4, { size: titleSize, fill: ink })]
  if (picture.subtitle !== undefined) {
    const y = margin + titleSize + lineHeight - 4
    shapes.push(textPath(picture.subtitle, margin, y, { size: textSize, fill: faint }))
  }
  const images: OverlayOptions[] = []
  const place = async (size: number, left: number, at: number) =>
    images.push({ input: await cutOut(picture, size), left: Math.round(left), top: Math.round(at) })

  const caption = `What the model sees, in ${picture.side} × ${picture.side} regions`
  shapes.push(textPath(caption, margin, top + textSize, { size: textSize, fill: ink }))
  await place(photoSize, margin, top + lineHeight)
  shapes.push(overview(picture, margin, top + lineHeight))
  for (const [row, layer] of layers.entries()) {
    const y = top + row * rowHeight
    shapes.push(
      textPath(layer.label, panelsLeft, y + textSize, { size: textSize, fill: layerColor(row) }),
      textPath(layer.detail, panelsLeft, y + lineHeight + textSize, { size: textSize, fill: faint }),
    )
    for (const [column, query] of queries.entries()) {
      const x = panelsLeft + column * (panelSize + gap)
      await place(panelSize, x, y + 2 * lineHeight)
      shapes.push(routesOf(picture, layer, query, column, x, y + 2 * lineHeight))
    }
  }
  shapes.push(coverageChart(picture, chartLeft, top + lineHeight), legend(layers, chartLeft, legendTop))
  const svg = (content: string) =>
    Buffer.from(`<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}">${content}</svg>`)
  return sharp(svg(`<rect width="100%" height="100%" fill="${paper}"/>`))
    .composite([...images, { input: svg(shapes.join('')), left: 0, top: 0 }])
    .removeAlpha()
    .png({ palette: false })
    .toBuffer()
}

function layerColor(row: number): string {
  return layerColors[row % layerColors.length]!
}

/** The part that the model saw, over white. */
async function cutOut({ photo, seen }: VisionPicture, size: number): Promise<Buffer> {
  const sharp = await loadSharp()
  const { width, height, channels, data } = photo
  const left = Math.min(width - 1, Math.round(seen.left))
  const top = Math.min(height - 1, Math.round(seen.top))
  const part = {
    left,
    top,
    width: Math.max(1, Math.min(width - left, Math.round(seen.width))),
    height: Math.max(1, Math.min(height - top, Math.round(seen.height))),
  }
  return sharp(Buffer.from(data.buffer, data.byteOffset, data.byteLength), { raw: { width, height, channels } })
    .extract(part)
    .resize(size, size, { fit: 'fill' })
    .flatten({ background: paper })
    .png()
    .toBuffer()
}

interface Box {
  readonly x: number
  readonly y: number
  readonly size: number
}

function boxOf(region: number, side: number, size: number, left: number, top: number): Box {
  const step = size / side
  return { x: left + (region % side) * step, y: top + Math.floor(region / side) * step, size: step }
}

function rect({ x, y, size }: Box, attributes: string, inset = 0): string {
  return `<rect x="${x + inset}" y="${y + inset}" width="${size - 2 * inset}" height="${size - 2 * inset}" ${attributes}/>`
}

function letter(index: number): string {
  return String.fromCharCode(65 + index)
}

/** A query region's frame and letter. */
function marked(box: Box, index: number): string {
  const color = queryColors[index % queryColors.length]!
  const label = { x: box.x + 2, y: box.y + 2, size: 16 }
  return (
    rect(box, `fill="none" stroke="${color}" stroke-width="3"`, 1.5) +
    rect(label, `fill="${color}"`) +
    textPath(letter(index), label.x + 8, label.y + 13, { size: 12, fill: paper, anchor: 'middle' })
  )
}

function overview({ side, queries }: VisionPicture, left: number, top: number): string {
  const step = photoSize / side
  let lines = ''
  for (let i = 1; i < side; i++) {
    const [x, y] = [left + i * step, top + i * step]
    lines += `M${x} ${top}v${photoSize}M${left} ${y}h${photoSize}`
  }
  const grid = `<path d="${lines}" stroke="#ffffff" stroke-opacity="0.7" fill="none"/>`
  return grid + queries.map((query, i) => marked(boxOf(query, side, photoSize, left, top), i)).join('')
}

/** Regions are covered with white as far as they are left out. */
function routesOf(
  { side }: VisionPicture,
  { kept }: VisionPictureLayer,
  query: number,
  index: number,
  left: number,
  top: number,
): string {
  const count = side * side
  let shapes = ''
  for (let region = 0; region < count; region++) {
    const share = Math.min(1, kept[query * count + region]!)
    const box = boxOf(region, side, panelSize, left, top)
    if (share < 1) shapes += rect(box, `fill="${paper}" fill-opacity="${(0.85 * (1 - share)).toFixed(3)}"`)
    if (share > 0) shapes += rect(box, `fill="none" stroke="${ink}" stroke-opacity="${share.toFixed(3)}"`, 0.5)
  }
  return shapes + marked(boxOf(query, side, panelSize, left, top), index)
}

function coverageChart({ layers, side }: VisionPicture, left: number, top: number): string {
  const count = side * side
  const { width, height } = chart
  const x = (k: number) => left + (k / count) * width
  const y = (mass: number) => top + (1 - mass) * height
  const label = (text: string, at: number, down: number, anchor: 'start' | 'middle' | 'end') =>
    textPath(text, at, down, { size: 11, fill: faint, anchor })
  let shapes = textPath('How much of dense attention k regions hold', left, top - 6, { size: textSize, fill: ink })
  for (const mass of [0, 0.25, 0.5, 0.75, 1]) {
    shapes += `<path d="M${left} ${y(mass)}h${width}" stroke="#d5dade"/>`
    shapes += label(`${100 * mass} %`, left - 6, y(mass) + 4, 'end')
  }
  const ticks = Array.from({ length: 6 }, (_, i) => Math.round((i / 5) * count))
  for (const k of new Set(ticks)) shapes += label(String(k), x(k), top + height + 16, 'middle')
  shapes += label(`k, of ${count} regions`, left + width / 2, top + height + 32, 'middle')
  for (const [row, { routed, best, point }] of layers.entries()) {
    const line = (curve: readonly number[]) =>
      `M${x(0)} ${y(0)}${curve.map((mass, i) => `L${x(i + 1).toFixed(1)} ${y(mass).toFixed(1)}`).join('')}`
    const stroke = `fill="none" stroke="${layerColor(row)}"`
    shapes += `<path d="${line(best)}" ${stroke} stroke-dasharray="3 4" stroke-opacity="0.8"/>`
    shapes += `<path d="${line(routed)}" ${stroke} stroke-width="2"/>`
    if (point) {
      const at = `cx="${x(point.regions).toFixed(1)}" cy="${y(point.mass).toFixed(1)}"`
      shapes += `<circle ${at} r="5" fill="${layerColor(row)}" stroke="${paper}" stroke-width="1.5"/>`
    }
  }
  return shapes
}

function legend(layers: readonly VisionPictureLayer[], left: number, top: number): string {
  let y = top
  let shapes = ''
  const entry = (mark: string, text: string, fill: string) => {
    shapes += `<g transform="translate(${left} ${y})">${mark}</g>${textPath(text, left + 34, y + 4, { size: textSize, fill })}`
    y += lineHeight
  }
  const stroke = (color: string, more: string) => `<path d="M0 0h26" stroke="${color}" ${more}/>`
  for (const [row, { label }] of layers.entries()) entry(stroke(layerColor(row), 'stroke-width="2"'), label, ink)
  entry(stroke(faint, 'stroke-dasharray="3 4"'), 'at best: those that hold most first', faint)
  entry(`<circle cx="13" r="5" fill="${faint}"/>`, 'what was computed here', faint)
  return shapes
}
