import type { KernelSource } from '@sparse-attention/core'
import { blockGridUniforms, visibleBlocksFunction } from '../shared/blocks.js'
import { productTile, TILE } from '../shared/product-tile.js'
import { uniformStruct } from '../shared/uniforms.js'
import { indent } from '../shared/wgsl.js'

export interface PooledScoresOptions {
  /** Multiple of 8. */
  readonly headDim: number
  readonly causal: boolean
}

export const pooledScoresUniforms = {
  ...blockGridUniforms,
  query_heads: 'u32',
  group_size: 'u32',
  scale: 'f32',
  /** First query block of this chunk, and query blocks of the chunk: the rows of `scores` per head. */
  first_row: 'u32',
  rows: 'u32',
} as const

/** Products of pooled queries and keys, in tiles. */
export function emitPooledScores({ headDim, causal }: PooledScoresOptions): KernelSource {
  const tile = productTile(headDim)
  const { depth, pitch } = tile
  const code = `\
// Scores of pooled blocks, scores[h, a, c] = scale · q_means[h, a] · k_means[h / group_size, c] (the block-sparse heads of
// MInference, arXiv 2407.02490, §3.2).
//
// Axes: q_means f32 [B·Hq, query_blocks, D]; k_means f32 [B·Hkv, key_blocks, D]; scores f32 [B·Hq, rows, key_blocks], of the
// query blocks first_row … first_row + rows. ${causal ? 'Tiles in which no query block sees a key block are not written.' : ''}
//
// 64 invocations compute ${TILE} × ${TILE} cells, 4 × 4 each, over ${depth * 4} dimensions at a time.
${uniformStruct('Uniforms', pooledScoresUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> q_means: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> k_means: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> scores: array<f32>;

const VECTORS = ${headDim / 4}u; // vec4 in a row of means

${tile.memory}

${causal ? `${visibleBlocksFunction(causal)}\n\n` : ''}\
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let first_row = u.first_row + workgroup.y * ${TILE}u;
  let first_column = workgroup.x * ${TILE}u;
  ${causal ? `if (first_column >= visible_blocks(min(first_row + ${TILE}u, u.query_blocks) - 1u)) { return; }` : ''}
  let batch = workgroup.z / u.query_heads;
  let kv_heads = u.query_heads / u.group_size;
  let kv_head = batch * kv_heads + workgroup.z % u.query_heads / u.group_size;
  ${indent(tile.declare, 2)}

  for (var first_vector = 0u; first_vector < VECTORS; first_vector += ${depth}u) {
    workgroupBarrier();
    for (var index = local; index < ${TILE * depth}u; index += 64u) {
      let tile_row = index / ${depth}u;
      let vector = first_vector + index % ${depth}u;
      let at = tile_row * ${pitch}u + index % ${depth}u;
      let a = first_row + tile_row;
      let c = first_column + tile_row;
      q_tile[at] = vec4<f32>();
      k_tile[at] = vec4<f32>();
      if (a < u.query_blocks) { q_tile[at] = q_means[(workgroup.z * u.query_blocks + a) * VECTORS + vector]; }
      if (c < u.key_blocks) { k_tile[at] = k_means[(kv_head * u.key_blocks + c) * VECTORS + vector]; }
    }
    workgroupBarrier();
    ${indent(tile.multiply, 4)}
  }

  let first_cell = workgroup.z * u.rows + first_row - u.first_row;
  ${indent(
    tile.store(
      'u.scale',
      `for (var j = 0u; j < 4u; j++) {
    let column = first_column + cell_column + j;
    if (first_row - u.first_row + row < u.rows && column < u.key_blocks) {
      scores[(first_cell + row) * u.key_blocks + column] = cells[j];
    }
  }`,
    ),
    2,
  )}
}
`
  return {
    label: 'pooled-scores',
    code,
    bindings: ['uniform', 'read', 'read', 'read_write'],
    workgroupSize: 64,
    workgroupBytes: tile.workgroupBytes,
  }
}
