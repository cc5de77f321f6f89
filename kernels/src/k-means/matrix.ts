import type { KernelSource, SubgroupMatrix } from '@sparse-attention/core'
import { workgroupNumberFunction } from '../shared/grid.js'
import { matrixProduct } from '../shared/matrix-product.js'
import { matrixDialect } from '../shared/subgroup-matrix.js'
import { uniformStruct } from '../shared/uniforms.js'
import { indent, range } from '../shared/wgsl.js'
import { FARTHEST, type NearestCentroidOptions, nearestCentroidHeader, nearestCentroidUniforms } from './emit.js'

/** Rows that a workgroup labels, and centroids that it looks at at once. */
export const MATRIX_TILE = { rows: 256, columns: 64 } as const

export interface MatrixNearestCentroidOptions extends Omit<NearestCentroidOptions, 'dtype'> {
  readonly subgroupMatrix: SubgroupMatrix
  /** 16-byte units of head_dim staged at once: 4, which needs more workgroup memory, or 2. */
  readonly units: 2 | 4
}

/** Patches of 16 rows that a subgroup has: a lane keeps the best of its row of each. */
const patches = range(4)

/** Matrix tier, f16. */
export function emitMatrixNearestCentroid({
  headDim,
  subgroupMatrix,
  units,
}: MatrixNearestCentroidOptions): KernelSource {
  const dialect = matrixDialect(subgroupMatrix)
  const product = matrixProduct(
    dialect,
    { subgroupRows: MATRIX_TILE.rows / 64, subgroupColumns: 1, units },
    {
      declare: (name, n) =>
        name === 'q'
          ? `let at_${n} = x_head + (first_row + row_${n}) * u.x_row_stride + lane_unit;`
          : `let at_${n} = (first_place + row_${n}) * UNITS + lane_unit;`,
      fetch: (name, n) =>
        name === 'q'
          ? `if (first_row + row_${n} < u.length) { unit_${n} = x[at_${n} + first_unit]; }`
          : `unit_${n} = centroids[at_${n} + first_unit];`,
    },
  )
  let looked = 0
  const look = product.store(({ cells }) => {
    const patch = Math.floor(looked++ / (MATRIX_TILE.columns / 16))
    const quarter = (n: number) => `\
{
  let distances = norms[(first_place + patch_column) / 4u + lane % 2u * 2u + ${n}u] - 2.0 * ${cells('lane / 2u', `lane % 2u * 2u + ${n}u`)};
  let column = first_column + patch_column + lane % 2u * 8u + ${4 * n}u;
  ${['x', 'y', 'z', 'w'].map((j, i) => `if (distances.${j} < best_${patch}) { best_${patch} = distances.${j}; label_${patch} = column + ${i}u; }`).join('\n  ')}
}`
    return [0, 1].map(quarter).join('\n')
  })
  const code = `\
${dialect.directives}

${nearestCentroidHeader('f16')} centroids f16 and norms f32, of whole tiles
// of ${MATRIX_TILE.columns}: as round-centroids leaves them.
//
// A workgroup labels ${MATRIX_TILE.rows} rows, ${MATRIX_TILE.columns} centroids at a time, over ${8 * units} dimensions at a time, on subgroup matrices. A lane keeps the
// best of four rows, half of the centroids each.
${uniformStruct('Uniforms', nearestCentroidUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> centroids: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> norms: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> labels: array<u32>;

${dialect.types}

const UNITS = ${headDim / 8}u; // 16-byte units of a row
const FARTHEST = ${FARTHEST};
${product.memory}

${workgroupNumberFunction}

@compute @workgroup_size(${product.workgroupSize})
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
  @builtin(subgroup_id) subgroup: u32,
) {
  let number = workgroup_number(workgroup);
  if (number >= u.end_workgroup) { return; }
  let row_tiles = (u.length + ${MATRIX_TILE.rows - 1}u) / ${MATRIX_TILE.rows}u;
  let segment = number / row_tiles;
  let first_row = number % row_tiles * ${MATRIX_TILE.rows}u;
  let x_head = u.x_offset + segment / u.heads * u.x_batch_stride + segment % u.heads * u.x_head_stride;
  let padded = (u.clusters + ${MATRIX_TILE.columns - 1}u) / ${MATRIX_TILE.columns}u * ${MATRIX_TILE.columns}u;
  ${patches.map((i) => `var best_${i} = FARTHEST;\n  var label_${i} = 0u;`).join('\n  ')}

  for (var first_column = 0u; first_column < u.clusters; first_column += ${MATRIX_TILE.columns}u) {
    let first_place = segment * padded + first_column;
    workgroupBarrier(); // the cells before have been looked at
    ${indent(product.declare, 4)}

    var first_unit = 0u;
    ${indent(product.loop(`first_unit += ${units}u;`, 'first_unit == UNITS'), 4)}

    ${indent(look, 4)}
  }

  // The other half of the centroids of a row is with the neighbouring lane.
  let even = local % 2u == 0u;
  ${patches
    .map(
      (i) => `\
{
    let distance = subgroupShuffleXor(best_${i}, 1u);
    let candidate = subgroupShuffleXor(label_${i}, 1u);
    if (distance < best_${i} || (distance == best_${i} && candidate < label_${i})) { label_${i} = candidate; }
    let row = first_row + local / LANES * 64u + ${16 * i}u + local % LANES / 2u;
    if (even && row < u.length) { labels[segment * u.length + row] = select(u.clusters, label_${i}, row < u.members); }
  }`,
    )
    .join('\n  ')}
}
`
  return {
    label: 'nearest-centroid',
    code,
    bindings: ['uniform', 'read', 'read', 'read', 'read_write'],
    workgroupSize: product.workgroupSize,
    workgroupBytes: product.workgroupBytes,
  }
}
