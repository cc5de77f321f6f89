import type { DType } from '@sparse-attention/core'

/** Lowest finite f32: stands for −∞ inside kernels, since WGSL may assume that infinities never occur. */
export const LOWEST = '-3.4028234e38'

/** How many elements of a dtype lie in the 16 bytes that kernels load at once. */
export function elementsPerUnit(dtype: DType): 4 | 8 {
  return dtype === 'f16' ? 8 : 4
}

/** Storage type whose elements are 16 bytes: f16 is read as packed halves, so it needs no feature. */
export function unitType(dtype: DType): string {
  return dtype === 'f16' ? 'vec4<u32>' : 'vec4<f32>'
}

/** Statements that unpack the 16-byte unit `unit` into vec4<f32> targets: one for f32, two for f16. */
export function unpackUnit(dtype: DType, unit: string, targets: readonly string[]): string {
  if (dtype === 'f32') return `${targets[0]} = ${unit};`
  return [
    `${targets[0]} = vec4<f32>(unpack2x16float(${unit}.x), unpack2x16float(${unit}.y));`,
    `${targets[1]} = vec4<f32>(unpack2x16float(${unit}.z), unpack2x16float(${unit}.w));`,
  ].join('\n')
}

/** An expression that packs vec4<f32> values into one 16-byte unit. */
export function packUnit(dtype: DType, values: readonly string[]): string {
  if (dtype === 'f32') return values[0]!
  const [a, b] = values
  return `vec4<u32>(pack2x16float(${a}.xy), pack2x16float(${a}.zw), pack2x16float(${b}.xy), pack2x16float(${b}.zw))`
}

/** WGSL function `ordered(x)`: NaN becomes the lowest number and ±∞ the largest of its sign, tested by bits. */
export const orderedFunction: string = `\
// Compilers may assume that NaN and infinity never occur and fold x != x, so this looks at the bits.
fn ordered(x: f32) -> f32 {
  let magnitude = bitcast<u32>(x) & 0x7fffffffu;
  if (magnitude > 0x7f800000u) { return ${LOWEST}; }
  return clamp(x, ${LOWEST}, 3.4028234e38);
}`

export function range(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i)
}

export function indent(text: string, spaces: number): string {
  return text.replace(/\n(?=.)/g, `\n${' '.repeat(spaces)}`)
}
