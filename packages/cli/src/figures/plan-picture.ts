import { type HostPlan, headPairs, keptShares, SparseAttentionError } from '@sparse-attention/core'
import type { Sharp, SharpOptions } from 'sharp'
import { textPath, textWidth } from './text.js'

export interface PlanPicture {
  /** First line, in large letters. */
  readonly title: string
  readonly subtitle?: string
  readonly rows: readonly PlanPictureRow[]
}

/** One plan: a layer's, a method's. */
export interface PlanPictureRow {
  /** Stands over each of its panels, before the head. */
  readonly label: string
  readonly plan: HostPlan
}

/** What a pixel of a panel can say. A cell that is kept in part lies between the first two. */
export const planColors = {
  kept: [0x1d, 0x4e, 0x89],
  skipped: [0xf3, 0xd9, 0xb1],
  /** No query of the block sees a key of it. */
  invisible: [0xe3, 0xe5, 0xe8],
} as const satisfies Record<string, readonly [number, number, number]>

const paper = '#ffffff'
const ink = '#1b2430'
const faint = '#5c6773'

const titleSize = 22
const subtitleSize = 14
const labelSize = 13
const margin = 28
const gap = 22
const labelHeight = 20
/** Panels come out near this wide: whole pixels a block, so that no block looks wider than another. */
const panelTarget = 200

/**
 * A PNG with one panel per plan (rows) and head (columns): queries run down, keys to the right, one cell a block.
 *
 * @throws INVALID_ARGUMENT without a row, MISSING_DEPENDENCY without sharp
 */
export async function planPicture(picture: PlanPicture): Promise<Buffer> {
  const sharp = await loadSharp()
  if (picture.rows.length === 0) {
    throw new SparseAttentionError('INVALID_ARGUMENT', {
      message: 'A picture of no plans was asked for.',
      fix: 'Pass at least one row.',
      where: 'rows',
    })
  }
  const rows = picture.rows.map(({ label, plan }) => ({ label, panels: drawPanels(plan) }))
  const columns = Math.max(...rows.map(({ panels }) => panels.length))
  const panelWidth = Math.max(...rows.flatMap(({ panels }) => panels.map(({ width }) => width)))
  const legend = drawLegend()
  const inner = Math.max(
    columns * (panelWidth + gap) - gap,
    legend.width,
    textWidth(picture.title, titleSize),
    textWidth(picture.subtitle ?? '', subtitleSize),
  )
  const width = Math.ceil(inner + 2 * margin)

  const shapes: string[] = []
  const images: { input: Buffer; raw: { width: number; height: number; channels: 3 }; left: number; top: number }[] = []
  let y = margin + titleSize
  shapes.push(textPath(picture.title, margin, y - 4, { size: titleSize, fill: ink }))
  if (picture.subtitle !== undefined) {
    y += subtitleSize + 8
    shapes.push(textPath(picture.subtitle, margin, y - 2, { size: subtitleSize, fill: faint }))
  }
  y += 14
  shapes.push(`<g transform="translate(${margin} ${y})">${legend.svg}</g>`)
  y += labelSize + 20
  for (const { label, panels } of rows) {
    for (const [head, { pixels, width: panel, height, density }] of panels.entries()) {
      const x = margin + head * (panelWidth + gap)
      shapes.push(
        textPath(`${label}, head ${head}`, x, y + labelSize, { size: labelSize, fill: ink }),
        textPath(percent(density), x + panel, y + labelSize, { size: labelSize, fill: faint, anchor: 'end' }),
        `<rect x="${x - 0.5}" y="${y + labelHeight - 0.5}" width="${panel + 1}" height="${height + 1}" fill="none" stroke="${faint}"/>`,
      )
      images.push({ input: pixels, raw: { width: panel, height, channels: 3 }, left: x, top: y + labelHeight })
    }
    y += labelHeight + Math.max(...panels.map(({ height }) => height)) + gap
  }
  const height = y - gap + margin
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}"><rect width="100%" height="100%" fill="${paper}"/>${shapes.join('')}</svg>`
  return sharp(Buffer.from(svg)).composite(images).removeAlpha().png({ palette: false }).toBuffer()
}

interface Panel {
  /** RGB, row by row. */
  readonly pixels: Buffer
  readonly width: number
  readonly height: number
  /** Kept pairs of visible ones, in this head. */
  readonly density: number
}

/** Cells of plans that have no blocks of their own. */
const cellTokens = 64

/** The panels of a plan: its heads, batch after batch. */
function drawPanels(plan: HostPlan): Panel[] {
  const cellQ = plan.kind === 'variable-block' ? cellTokens : plan.blockQ
  const cellK = plan.kind === 'block' ? plan.blockK : cellTokens
  const rows = Math.ceil(plan.queryLength / cellQ)
  const columns = Math.ceil(plan.keyLength / cellK)
  // One token is as long on both axes, so a panel shows the true shape of the attention matrix.
  const tokensPerPixel = Math.max(plan.queryLength, plan.keyLength) / panelTarget
  const cellHeight = Math.max(1, Math.round(cellQ / tokensPerPixel))
  const cellWidth = Math.max(1, Math.round(cellK / tokensPerPixel))
  const width = columns * cellWidth
  const height = rows * cellHeight
  const shares = keptShares(plan, cellQ, cellK)
  return headPairs(plan).map(({ kept, visible }, head) => {
    const pixels = Buffer.alloc(width * height * 3)
    for (let y = 0; y < height; y++) {
      const row = (head * rows + Math.floor(y / cellHeight)) * columns
      for (let x = 0; x < width; x++)
        pixels.set(cellColor(shares[row + Math.floor(x / cellWidth)]!), (y * width + x) * 3)
    }
    return { pixels, width, height, density: visible === 0 ? 1 : kept / visible }
  })
}

/** @param share  of the cell's visible pairs that is kept, NaN where none is visible */
function cellColor(share: number): readonly number[] {
  if (Number.isNaN(share)) return planColors.invisible
  return planColors.skipped.map((skipped, i) => Math.round(skipped + share * (planColors.kept[i]! - skipped)))
}

function drawLegend(): { svg: string; width: number } {
  const entries = [
    ['kept', 'computed'],
    ['skipped', 'skipped'],
    ['invisible', 'never visible (causal)'],
  ] as const
  let x = 0
  let svg = ''
  for (const [state, label] of entries) {
    const fill = `rgb(${planColors[state].join(',')})`
    svg += `<rect x="${x + 0.5}" y="0.5" width="13" height="13" fill="${fill}" stroke="${faint}" stroke-width="0.5"/>`
    svg += textPath(label, x + 20, 12, { size: labelSize, fill: ink })
    x += 20 + textWidth(label, labelSize) + 22
  }
  const axes = 'queries run down, keys to the right; % of visible pairs computed'
  svg += textPath(axes, x, 12, { size: labelSize, fill: faint })
  return { svg, width: x + textWidth(axes, labelSize) }
}

function percent(share: number): string {
  return `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`
}

/** @throws MISSING_DEPENDENCY */
export async function loadSharp(): Promise<(input: Buffer, options?: SharpOptions) => Sharp> {
  try {
    return (await import('sharp')).default
  } catch (cause) {
    throw new SparseAttentionError('MISSING_DEPENDENCY', {
      message: 'Pictures need the package sharp, which is not installed for this platform.',
      fix: 'Run `npm install sharp`.',
      where: 'sharp',
      cause,
    })
  }
}
