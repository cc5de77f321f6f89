import type { DType } from '@sparse-attention/core'
import { elementsPerUnit, indent, range, unpackUnit } from './wgsl.js'

/**
 * WGSL that products of rows share: 64 invocations compute 32 × 32 cells, each a micro-tile of 4 × 4, from `q_tile` and
 * `k_tile` in workgroup memory, which hold 32 rows of `depth` vec4 at a time.
 */

/** Output cells of one workgroup, per side. */
export const TILE = 32

export interface ProductTile {
  /** vec4 of head_dim staged at once. */
  readonly depth: number
  /** vec4 from one staged row to the next: odd, so that rows fall into different banks. */
  readonly pitch: number
  readonly workgroupBytes: number
  /** The two tiles in workgroup memory. */
  readonly memory: string
  /** Declares the micro-tile's place `cell_row`, `cell_column` and its sums. Needs `local`. */
  readonly declare: string
  /** Adds the products of what is staged to the sums. */
  readonly multiply: string
  /** `statement` for each row of the micro-tile, which sees its place `row` in the tile and its four `cells`, scaled. */
  store(scale: string, statement: string): string
}

export function productTile(headDim: number): ProductTile {
  const depth = headDim % 16 === 0 ? 4 : 2
  const pitch = depth + 1
  const micro = range(4)
  const load = (name: 'q' | 'k', cell: string) =>
    micro.map((i) => `let ${name}${i} = ${name}_tile[(${cell} + ${i}u) * ${pitch}u + d];`).join('\n  ')
  return {
    depth,
    pitch,
    workgroupBytes: 2 * TILE * pitch * 16,
    memory: `\
var<workgroup> q_tile: array<vec4<f32>, ${TILE * pitch}>;
var<workgroup> k_tile: array<vec4<f32>, ${TILE * pitch}>;`,
    declare: `\
let cell_row = local / 8u * 4u;
let cell_column = local % 8u * 4u;
${micro.map((i) => `var sum${i} = vec4<f32>();`).join(' ')}`,
    multiply: `\
for (var d = 0u; d < ${depth}u; d++) {
  ${load('q', 'cell_row')}
  ${load('k', 'cell_column')}
  ${micro.map((i) => `sum${i} += vec4<f32>(${micro.map((j) => `dot(q${i}, k${j})`).join(', ')});`).join('\n  ')}
}`,
    store: (scale, statement) =>
      micro
        .map((i) => `{\n  let row = cell_row + ${i}u;\n  let cells = sum${i} * ${scale};\n  ${statement}\n}`)
        .join('\n'),
  }
}

/**
 * Statements that stage 16 bytes of row `<name>_row` of a strided tensor at `<name>_tile[at]`: zeros for rows from `length`
 * on. Needs `first_unit`, `unit_in_row` and the head's first unit `<name>_head`.
 */
export function stageUnit(dtype: DType, name: 'q' | 'k', length: 'query_length' | 'key_length'): string {
  const targets = range(elementsPerUnit(dtype) / 4).map((i) => `${name}_tile[at + ${i}u]`)
  return `\
${targets.map((target) => `${target} = vec4<f32>();`).join(' ')}
if (${name}_row < u.${length}) {
  let unit = ${name}[${name}_head + ${name}_row * u.${name}_row_stride + first_unit + unit_in_row];
  ${indent(unpackUnit(dtype, 'unit', targets), 2)}
}`
}
