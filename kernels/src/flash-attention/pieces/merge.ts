import type { KernelSource } from '@sparse-attention/core'
import { addressFields, uniformStruct } from '../../shared/uniforms.js'
import { LOWEST, packUnit, unpackUnit } from '../../shared/wgsl.js'

export const mergePiecesUniforms = {
  ...addressFields('out'),
  query_heads: 'u32',
  query_length: 'u32',
  row_blocks: 'u32',
} as const

export const MERGE_LANES = 256

/** WGSL that merges the parts of rows that were cut, f16: an invocation for each 16 bytes of the output. */
export function emitMergePieces(headDim: number, rows: number): KernelSource {
  const code = `\
// out = Σₚ exp(lseₚ − lse) partₚ and lse = ln Σₚ exp(lseₚ) over the parts of each row of blocks that was cut.
//
// cuts[j] = (row of blocks, its first slot, its parts, 0), one a workgroup row; of 0 parts: nothing to do.
// parts [slots, ROWS, UNITS + 1]: f16 outputs of a part, and in the last unit of a row its LSE, −∞ for a part without a key.
${uniformStruct('Uniforms', mergePiecesUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> cuts: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> parts: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> out: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> lse: array<u32>;

const ROWS = ${rows}u;
const UNITS = ${headDim / 8}u; // 16-byte units of a row
const PART = ROWS * (UNITS + 1u);
const NOTHING = 0xff800000u; // −∞: compared as bits, since compilers may assume that it does not occur

@compute @workgroup_size(${MERGE_LANES})
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let cut = cuts[workgroup.y];
  let index = workgroup.x * ${MERGE_LANES}u + local;
  let row = index / UNITS;
  let unit = index % UNITS;
  let query = cut.x % u.row_blocks * ROWS + row;
  if (cut.z == 0u || row >= ROWS || query >= u.query_length) { return; }
  let first = cut.y * PART + row * (UNITS + 1u);
  var largest = ${LOWEST};
  var empty = true;
  for (var part = 0u; part < cut.z; part++) {
    let bits = parts[first + part * PART + UNITS].x;
    if (bits == NOTHING) { continue; }
    empty = false;
    largest = max(largest, bitcast<f32>(bits));
  }
  var sum = 0.0;
  var low = vec4<f32>();
  var high = vec4<f32>();
  for (var part = 0u; part < cut.z; part++) {
    let at = first + part * PART;
    let bits = parts[at + UNITS].x;
    if (bits == NOTHING) { continue; }
    // The difference may overflow on huge logits; any number below −104 gives the same 0.
    let weight = exp(max(bitcast<f32>(bits) - largest, -1000.0));
    sum += weight;
    let packed = parts[at + unit];
    var a: vec4<f32>;
    var b: vec4<f32>;
    ${unpackUnit('f16', 'packed', ['a', 'b']).replace('\n', '\n    ')}
    low += weight * a;
    high += weight * b;
  }
  let inverse = select(1.0 / sum, 0.0, empty);
  low *= inverse;
  high *= inverse;
  let flat_head = cut.x / u.row_blocks;
  let head = flat_head % u.query_heads;
  let batch = flat_head / u.query_heads;
  out[u.out_offset + batch * u.out_batch_stride + head * u.out_head_stride + query * u.out_row_stride + unit] =
    ${packUnit('f16', ['low', 'high'])};
  if (unit == 0u) { lse[flat_head * u.query_length + query] = select(bitcast<u32>(largest + log(sum)), NOTHING, empty); }
}
`
  return {
    label: 'merge-pieces',
    code,
    bindings: ['uniform', 'read', 'read', 'read_write', 'read_write'],
    workgroupSize: MERGE_LANES,
    workgroupBytes: 0,
  }
}
