import sharp from 'sharp'
import { planColors } from '../src/figures/plan-picture.js'

export interface Pixels {
  readonly width: number
  readonly height: number
  /** 0xRRGGBB */
  at(x: number, y: number): number
}

/** @param png a file or its bytes */
export async function pixels(png: string | Buffer): Promise<Pixels> {
  const { data, info } = await sharp(png).raw().toBuffer({ resolveWithObject: true })
  if (info.channels !== 3) throw new Error(`expected RGB, got ${info.channels} channels`)
  return { width: info.width, height: info.height, at: (x, y) => data.readUIntBE((y * info.width + x) * 3, 3) }
}

export const hex = ([r, g, b]: readonly [number, number, number]): number => (r << 16) | (g << 8) | b
/** Where the title and the legend end, which has a swatch of every colour. */
export const headEnd = 90

const kept = hex(planColors.kept)
const frame = 0x5c6773

/** Left upper corners of the panels, where the first block stands: kept, with nothing kept above or to the left. */
export function findPanels({ width, height, at }: Pixels): [number, number][] {
  const corners: [number, number][] = []
  for (let y = headEnd; y < height; y++) {
    for (let x = 1; x < width; x++) {
      if (at(x, y) === kept && at(x - 1, y) !== kept && at(x, y - 1) !== kept && at(x - 1, y - 1) === frame) {
        corners.push([x, y])
      }
    }
  }
  return corners
}
