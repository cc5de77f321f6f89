import type { DType, KernelSource } from '@sparse-attention/core'
import { gridUniforms, workgroupNumberFunction } from '../shared/grid.js'
import { productTile, TILE } from '../shared/product-tile.js'
import { addressFields, uniformStruct } from '../shared/uniforms.js'
import { elementsPerUnit, indent, range, unitType, unpackUnit } from '../shared/wgsl.js'

export interface NearestCentroidOptions {
  readonly dtype: DType
  /** Multiple of 8, at most 256. */
  readonly headDim: number
}

export const nearestCentroidUniforms = {
  ...gridUniforms,
  ...addressFields('x'),
  heads: 'u32',
  length: 'u32',
  /** Rows that are labelled; those behind them get the label `clusters`. */
  members: 'u32',
  clusters: 'u32',
  /** Centroids of a segment that there is room for: `clusters`, or one more. */
  groups: 'u32',
} as const

/** What the kernels of both tiers compute. */
export const nearestCentroidHeader = (dtype: DType): string => `\
// labels[s, i] = the centroid nearest to row i of x, argmin_c |c|² − 2 x·c, ties to the lower c: one half of an iteration
// of Lloyd's k-means. Rows from \`members\` on get the label \`clusters\`.
//
// Axes: x [B, H, L, D] ${dtype}, strided; s counts B·H; labels u32 [B·H, L].`

/** Larger than any distance. */
export const FARTHEST = '3.4028234e38'

/** Column groups of a tile: invocations that share a row. */
const GROUPS = TILE / 4

/** Labels rows with their nearest centroids: products in tiles, and a running minimum. */
export function emitNearestCentroid({ dtype, headDim }: NearestCentroidOptions): KernelSource {
  const tile = productTile(headDim)
  const vectors = elementsPerUnit(dtype) / 4
  const units = tile.depth / vectors // of 16 bytes staged at once
  const targets = range(vectors).map((i) => `q_tile[at + ${i}u]`)
  const code = `\
${nearestCentroidHeader(dtype)} centroids f32 [B·H, groups, D].
//
// 64 invocations label ${TILE} rows, ${TILE} centroids at a time, 4 × 4 of them each, over ${tile.depth * 4} dimensions at a time.
${uniformStruct('Uniforms', nearestCentroidUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> x: array<${unitType(dtype)}>;
@group(0) @binding(2) var<storage, read> centroids: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> labels: array<u32>;

const VECTORS = ${headDim / 4}u; // vec4 of a row
const FARTHEST = ${FARTHEST};

// Rows are the tile's q, centroids its k.
${tile.memory}
var<workgroup> norms: array<f32, ${TILE}>;
var<workgroup> nearest: array<f32, ${TILE * GROUPS}>; // of a row and a column group of the tile: |c|² − 2 x·c,
var<workgroup> nearest_label: array<u32, ${TILE * GROUPS}>; // and c

${workgroupNumberFunction}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let number = workgroup_number(workgroup);
  if (number >= u.end_workgroup) { return; }
  let tiles = (u.length + ${TILE - 1}u) / ${TILE}u;
  let segment = number / tiles;
  let first_row = number % tiles * ${TILE}u;
  let x_head = u.x_offset + segment / u.heads * u.x_batch_stride + segment % u.heads * u.x_head_stride;
  for (var i = local; i < ${TILE * GROUPS}u; i += 64u) {
    nearest[i] = FARTHEST;
    nearest_label[i] = 0u;
  }

  for (var first_column = 0u; first_column < u.clusters; first_column += ${TILE}u) {
    ${indent(tile.declare, 4)}
    var norm = 0.0; // of centroid first_column + local
    for (var first_vector = 0u; first_vector < VECTORS; first_vector += ${tile.depth}u) {
      workgroupBarrier();
      for (var index = local; index < ${TILE * units}u; index += 64u) {
        let row = first_row + index / ${units}u;
        let at = index / ${units}u * ${tile.pitch}u + index % ${units}u * ${vectors}u;
        ${targets.map((target) => `${target} = vec4<f32>();`).join(' ')}
        if (row < u.length) {
          let unit = x[x_head + row * u.x_row_stride + first_vector / ${vectors}u + index % ${units}u];
          ${indent(unpackUnit(dtype, 'unit', targets), 10)}
        }
      }
      for (var index = local; index < ${TILE * tile.depth}u; index += 64u) {
        let c = first_column + index / ${tile.depth}u;
        let d = index % ${tile.depth}u;
        var value = vec4<f32>();
        if (c < u.clusters) { value = centroids[(segment * u.groups + c) * VECTORS + first_vector + d]; }
        k_tile[index / ${tile.depth}u * ${tile.pitch}u + d] = value;
      }
      workgroupBarrier();
      if (local < ${TILE}u) {
        for (var d = 0u; d < ${tile.depth}u; d++) {
          let value = k_tile[local * ${tile.pitch}u + d];
          norm += dot(value, value);
        }
      }
      ${indent(tile.multiply, 6)}
    }
    if (local < ${TILE}u) { norms[local] = norm; }
    workgroupBarrier();
    ${indent(
      tile.store(
        '2.0',
        `let at = row * ${GROUPS}u + cell_column / 4u;
  for (var j = 0u; j < 4u; j++) {
    let distance = norms[cell_column + j] - cells[j];
    if (first_column + cell_column + j < u.clusters && distance < nearest[at]) {
      nearest[at] = distance;
      nearest_label[at] = first_column + cell_column + j;
    }
  }`,
      ),
      4,
    )}
  }

  workgroupBarrier();
  let row = first_row + local;
  if (local >= ${TILE}u || row >= u.length) { return; }
  var best = nearest[local * ${GROUPS}u];
  var label = nearest_label[local * ${GROUPS}u];
  for (var i = 1u; i < ${GROUPS}u; i++) {
    let distance = nearest[local * ${GROUPS}u + i];
    let candidate = nearest_label[local * ${GROUPS}u + i];
    if (distance < best || (distance == best && candidate < label)) {
      best = distance;
      label = candidate;
    }
  }
  labels[segment * u.length + row] = select(u.clusters, label, row < u.members);
}
`
  return {
    label: 'nearest-centroid',
    code,
    bindings: ['uniform', 'read', 'read', 'read_write'],
    workgroupSize: 64,
    workgroupBytes: tile.workgroupBytes + TILE * 4 + TILE * GROUPS * 8,
  }
}
