import type { DType, KernelSource } from '@sparse-attention/core'
import { addressFields, uniformStruct } from '../shared/uniforms.js'
import { elementsPerUnit, indent, range, unitType, unpackUnit } from '../shared/wgsl.js'
import type { PoolMode } from './block-pool.js'

export interface BlockPoolOptions {
  readonly dtype: DType
  /** Multiple of 8, at most 256. */
  readonly headDim: number
  readonly mode: PoolMode
}

export const blockPoolUniforms = {
  ...addressFields('x'),
  heads: 'u32',
  length: 'u32',
  /** Rows of a block, and blocks of a head. */
  block: 'u32',
  blocks: 'u32',
} as const

/** How a mode reduces the rows of a block: its running values, one a row of output. */
interface Reduction {
  readonly purpose: string
  readonly type: 'vec4<f32>' | 'vec4<u32>'
  readonly functions: string
  readonly values: readonly { readonly name: string; readonly first: string; add(sum: string, x: string): string }[]
  /** A row from the bits `x` of the tensor; expressions of the type. */
  read(x: string): string
  /** Output rows, from the values of vector `i`. */
  results(i: number): readonly string[]
}

const reductions: Readonly<Record<PoolMode, Reduction>> = {
  mean: {
    purpose: 'pooled[h, n] = the mean of rows n · block … of x; the last block divides by the rows that it has.',
    type: 'vec4<f32>',
    functions: '',
    values: [{ name: 'sum', first: 'vec4<f32>()', add: (sum, x) => `${sum} + ${x}` }],
    read: (x) => x,
    results: (i) => [`sum${i} / rows`],
  },
  'min-max': {
    purpose: `\
pooled[h, n] = the minima, then the maxima, per channel, of rows n · block … of x. A NaN makes both of its channel NaN.
// Numbers become u32 keys of the same order, so that NaN and infinity need no trust in the compiler.`,
    type: 'vec4<u32>',
    functions: `
// Orders as the numbers do; NaN lies outside of the keys of −∞ and ∞.
fn key_of(x: vec4<f32>) -> vec4<u32> {
  let bits = bitcast<vec4<u32>>(x);
  return select(bits | vec4<u32>(0x80000000u), ~bits, bits >= vec4<u32>(0x80000000u));
}

fn bits_of(key: vec4<u32>, low: vec4<u32>, high: vec4<u32>) -> vec4<u32> {
  let bits = select(~key, key & vec4<u32>(0x7fffffffu), key >= vec4<u32>(0x80000000u));
  let poisoned = (low < vec4<u32>(0x007fffffu)) | (high > vec4<u32>(0xff800000u));
  return select(bits, vec4<u32>(0x7fc00000u), poisoned);
}
`,
    values: [
      { name: 'low', first: 'vec4<u32>(0xffffffffu)', add: (low, x) => `min(${low}, ${x})` },
      { name: 'high', first: 'vec4<u32>()', add: (high, x) => `max(${high}, ${x})` },
    ],
    read: (x) => `key_of(${x})`,
    results: (i) => [`bits_of(low${i}, low${i}, high${i})`, `bits_of(high${i}, low${i}, high${i})`],
  },
}

/** Means, or minima and maxima, of blocks of rows: one workgroup a block. */
export function emitBlockPool({ dtype, headDim, mode }: BlockPoolOptions): KernelSource {
  const { purpose, type, functions, values, read, results } = reductions[mode]
  const perUnit = elementsPerUnit(dtype)
  const units = headDim / perUnit
  const vectors = range(perUnit / 4)
  const each = (separator: string, line: (value: (typeof values)[number], i: number, slot: number) => string) =>
    vectors.flatMap((i) => values.map((value, n) => line(value, i, i * values.length + n))).join(separator)
  const slots = vectors.length * values.length
  const code = `\
// ${purpose}
//
// Axes: x [B, H, L, D] ${dtype}, strided; pooled f32 [B·H, blocks, ${values.length === 1 ? '' : `${values.length}, `}D].
//
// One workgroup of 64 a block: PARTS rows at a time, 16 bytes an invocation, then the parts combined in order.
${uniformStruct('Uniforms', blockPoolUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> x: array<${unitType(dtype)}>;
@group(0) @binding(2) var<storage, read_write> pooled: array<${type}>;${type === 'vec4<u32>' ? ' // bits of f32' : ''}

const UNITS = ${units}u; // of 16 bytes in a row
const PARTS = ${Math.floor(64 / units)}u;
const ROW = ${units * vectors.length}u; // vec4 in a row of pooled

var<workgroup> partial: array<${type}, ${64 * slots}>;
${functions}
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let batch = workgroup.y / u.heads;
  let head = workgroup.y % u.heads;
  let first_row = workgroup.x * u.block;
  let end_row = min(first_row + u.block, u.length);
  let column = u.x_offset + batch * u.x_batch_stride + head * u.x_head_stride + local % UNITS;
  ${each(' ', ({ name, first }, i) => `var ${name}${i} = ${first};`)}
  if (local < UNITS * PARTS) {
    for (var row = first_row + local / UNITS; row < end_row; row += PARTS) {
      let unit = x[column + row * u.x_row_stride];
      ${vectors.map((i) => `var value${i}: vec4<f32>;`).join(' ')}
      ${indent(
        unpackUnit(
          dtype,
          'unit',
          vectors.map((i) => `value${i}`),
        ),
        6,
      )}
      ${each('\n      ', ({ name, add }, i) => `${name}${i} = ${add(`${name}${i}`, read(`value${i}`))};`)}
    }
  }
  ${each('\n  ', ({ name }, i, slot) => `partial[local * ${slots}u + ${slot}u] = ${name}${i};`)}
  workgroupBarrier();
  if (local >= UNITS) { return; }
  for (var part = 1u; part < PARTS; part++) {
    let at = (part * UNITS + local) * ${slots}u;
    ${each('\n    ', ({ name, add }, i, slot) => `${name}${i} = ${add(`${name}${i}`, `partial[at + ${slot}u]`)};`)}
  }
  ${mode === 'mean' ? 'let rows = f32(end_row - first_row);\n  ' : ''}\
let out = (workgroup.y * u.blocks + workgroup.x) * ${values.length === 1 ? '' : `${values.length}u * `}ROW + local * ${vectors.length}u;
  ${vectors
    .flatMap((i) => results(i).map((result, n) => `pooled[out + ${n === 0 ? '' : `${n}u * ROW + `}${i}u] = ${result};`))
    .join('\n  ')}
}
`
  return {
    label: mode === 'mean' ? 'block-pool' : 'block-pool-min-max',
    code,
    bindings: ['uniform', 'read', 'read_write'],
    workgroupSize: 64,
    workgroupBytes: 64 * slots * 16,
  }
}
