import type { KernelSource } from '@sparse-attention/core'
import { uniformStruct } from '../shared/uniforms.js'
import { FARTHEST } from './emit.js'
import { MATRIX_TILE } from './matrix.js'

export const roundCentroidsUniforms = { clusters: 'u32', groups: 'u32', places: 'u32' } as const

/** Centroids as operands of matrices, and their norms. */
export function emitRoundCentroids(headDim: number): KernelSource {
  const code = `\
// halves[s, c] = centroids[s, c] rounded to f16, norms[s, c] = |halves[s, c]|²; behind the last cluster zeros, and farther than
// any row is.
//
// Axes: centroids f32 [segments, groups, D]; halves f16 and norms f32 [segments, clusters in whole tiles of ${MATRIX_TILE.columns}, D, or none].
// One invocation a centroid.
${uniformStruct('Uniforms', roundCentroidsUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> centroids: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> halves: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> norms: array<f32>;

const UNITS = ${headDim / 8}u; // of 8 halves in a row

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let place = id.x;
  if (place >= u.places) { return; }
  let padded = (u.clusters + ${MATRIX_TILE.columns - 1}u) / ${MATRIX_TILE.columns}u * ${MATRIX_TILE.columns}u;
  let c = place % padded;
  let first = (place / padded * u.groups + c) * UNITS * 2u;
  var norm = 0.0;
  for (var unit = 0u; unit < UNITS; unit++) {
    var value = vec4<u32>();
    if (c < u.clusters) {
      let a = centroids[first + unit * 2u];
      let b = centroids[first + unit * 2u + 1u];
      value = vec4<u32>(pack2x16float(a.xy), pack2x16float(a.zw), pack2x16float(b.xy), pack2x16float(b.zw));
    }
    halves[place * UNITS + unit] = value;
    let low = vec4<f32>(unpack2x16float(value.x), unpack2x16float(value.y));
    let high = vec4<f32>(unpack2x16float(value.z), unpack2x16float(value.w));
    norm += dot(low, low) + dot(high, high);
  }
  norms[place] = select(${FARTHEST}, norm, c < u.clusters);
}
`
  return {
    label: 'round-centroids',
    code,
    bindings: ['uniform', 'read', 'read_write', 'read_write'],
    workgroupSize: 64,
    workgroupBytes: 0,
  }
}
