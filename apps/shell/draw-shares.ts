type Rgb = readonly [number, number, number]

/**
 * Draws shares of kept pairs in the page's colours of plans, a pixel a cell.
 *
 * @param shares [down, across] from 0 to 1, NaN where no pair is visible
 */
export function drawShares(canvas: HTMLCanvasElement, shares: Float32Array, down: number, across: number): void {
  const style = getComputedStyle(canvas)
  const color = (name: string): Rgb => parseHex(style.getPropertyValue(name).trim())
  const [kept, skipped, invisible] = [color('--plan-kept'), color('--plan-skipped'), color('--plan-invisible')]
  canvas.width = across
  canvas.height = down
  const image = new ImageData(across, down)
  shares.forEach((share, cell) => {
    for (let c = 0; c < 3; c++) {
      image.data[cell * 4 + c] = Number.isNaN(share) ? invisible[c]! : skipped[c]! + share * (kept[c]! - skipped[c]!)
    }
    image.data[cell * 4 + 3] = 255
  })
  canvas.getContext('2d')!.putImageData(image, 0, 0)
}

function parseHex(hex: string): Rgb {
  const value = Number.parseInt(hex.slice(1), 16)
  return [value >> 16, (value >> 8) & 255, value & 255]
}
