import type { MassCoverage } from '@sparse-attention/vision'
import { drawRegions, percent, type RegionsDrawing } from './draw-regions.js'
import type { Answer } from './photo-classifier.js'

export interface ReportPicture {
  readonly title: string
  /** Layer, head and routing, in words. */
  readonly subtitle: string
  readonly regions: RegionsDrawing
  readonly routed: Answer
  readonly dense: Answer | undefined
  readonly coverage: MassCoverage
  /** Regions that each attends to; undefined: all. */
  readonly topK: number | undefined
}

export const reportSize = { width: 1120, height: 680 }

const paper = '#ffffff'
const ink = '#1b2430'
const faint = '#4d5864'
const routedColor = '#1864ab'
const bestColor = '#5c6773'
const margin = 32
const photoSize = 520
const columnLeft = margin + photoSize + 2 * margin
const columnWidth = reportSize.width - columnLeft - margin

/** A picture to keep: the photo with its routes, the answers, and the mass covered. */
export async function reportPicture(report: ReportPicture): Promise<Blob> {
  const canvas = new OffscreenCanvas(reportSize.width, reportSize.height)
  const context = canvas.getContext('2d')!
  context.fillStyle = paper
  context.fillRect(0, 0, reportSize.width, reportSize.height)
  const text = (words: string, x: number, y: number, font: string, color = ink, align: CanvasTextAlign = 'left') => {
    context.font = `${font} system-ui, sans-serif`
    context.fillStyle = color
    context.textAlign = align
    context.fillText(words, x, y)
  }
  text(report.title, margin, margin + 20, '600 24px')
  text(report.subtitle, margin, margin + 48, '15px', faint)
  drawRegions(context, report.regions, margin, margin + 72, photoSize)

  let y = margin + 84
  for (const [name, answer] of [
    ['Routed attention', report.routed],
    ['Dense attention', report.dense],
  ] as const) {
    if (!answer) continue
    text(`${name}: ${answer.modelMs.toFixed(0)} ms`, columnLeft, y, '600 15px')
    for (const { name: label, probability } of answer.classes.slice(0, 4)) {
      y += 24
      context.fillStyle = '#d0ebff'
      context.fillRect(columnLeft, y - 15, Math.max(1, columnWidth * probability), 20)
      text(label.replaceAll('_', ' '), columnLeft + 6, y, '14px')
      text(percent(probability), columnLeft + columnWidth - 4, y, '14px', ink, 'right')
    }
    y += 40
  }
  drawCoverage(context, report, text, columnLeft, y + 12, columnWidth, reportSize.height - y - 12 - margin - 24)
  return canvas.convertToBlob({ type: 'image/png' })
}

function drawCoverage(
  context: OffscreenCanvasRenderingContext2D,
  { coverage: { routed, best }, topK }: ReportPicture,
  text: (words: string, x: number, y: number, font: string, color?: string, align?: CanvasTextAlign) => void,
  left: number,
  top: number,
  width: number,
  height: number,
): void {
  const count = routed.length
  const x = (k: number) => left + 40 + (k / count) * (width - 40)
  const y = (mass: number) => top + (1 - mass) * height
  text('Attention in the first k regions', left, top - 12, '600 15px')
  for (const mass of [0, 0.5, 1]) {
    context.fillStyle = '#d5dade'
    context.fillRect(x(0), y(mass), width - 40, 1)
    text(`${100 * mass} %`, left + 34, y(mass) + 4, '12px', faint, 'right')
  }
  for (const k of [1, Math.round(count / 2), count]) text(String(k), x(k), y(0) + 18, '12px', faint, 'center')
  const curve = (values: readonly number[], color: string, dash: number[]) => {
    context.beginPath()
    context.moveTo(x(0), y(0))
    for (const [i, mass] of values.entries()) context.lineTo(x(i + 1), y(mass))
    context.strokeStyle = color
    context.lineWidth = 2
    context.setLineDash(dash)
    context.stroke()
    context.setLineDash([])
  }
  curve(best, bestColor, [4, 4])
  curve(routed, routedColor, [])
  text('as routed', x(count), y(0.36), '13px', routedColor, 'right')
  text('at best', x(count), y(0.36) + 18, '13px', bestColor, 'right')
  if (topK === undefined) return
  context.beginPath()
  context.arc(x(topK), y(routed[topK - 1]!), 5, 0, 2 * Math.PI)
  context.fillStyle = routedColor
  context.fill()
}
