import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import opentype, { type Font } from 'opentype.js'

const require: NodeJS.Require = createRequire(import.meta.url)
let font: Font | undefined

/** Loaded on first use: no code runs on import. */
function inter(): Font {
  if (!font) {
    const file = readFileSync(require.resolve('@fontsource/inter/files/inter-latin-500-normal.woff'))
    font = opentype.parse(file.buffer.slice(file.byteOffset, file.byteOffset + file.byteLength))
  }
  return font
}

export interface TextStyle {
  /** In pixels. */
  readonly size: number
  readonly fill: string
  /** Which end of the text stands at x. Default 'start'. */
  readonly anchor?: 'start' | 'middle' | 'end'
}

/**
 * A line of text as an SVG path with its baseline at y. The font comes with this package, so that pictures look the same
 * on every machine, also on one without any font.
 */
export function textPath(text: string, x: number, y: number, { size, fill, anchor = 'start' }: TextStyle): string {
  let at = x - { start: 0, middle: 0.5, end: 1 }[anchor] * textWidth(text, size)
  let data = ''
  // Glyph by glyph: this font needs no shaping for the characters of a label.
  for (const character of text) {
    const glyph = inter().charToGlyph(character)
    data += glyph.getPath(at, y, size).toPathData(2)
    at += advance(character, size)
  }
  return `<path d="${data}" fill="${fill}"/>`
}

export function textWidth(text: string, size: number): number {
  let width = 0
  for (const character of text) width += advance(character, size)
  return width
}

function advance(character: string, size: number): number {
  return ((inter().charToGlyph(character).advanceWidth ?? 0) * size) / inter().unitsPerEm
}
