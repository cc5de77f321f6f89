// labels[s, i] = the centroid nearest to row i of x, argmin_c |c|² − 2 x·c, ties to the lower c: one half of an iteration
// of Lloyd's k-means. Rows from `members` on get the label `clusters`.
//
// Axes: x [B, H, L, D] f16, strided; s counts B·H; labels u32 [B·H, L]. centroids f32 [B·H, groups, D].
//
// 64 invocations label 32 rows, 32 centroids at a time, 4 × 4 of them each, over 16 dimensions at a time.
struct Uniforms {
  first_workgroup: u32,
  end_workgroup: u32,
  x_offset: u32,
  x_batch_stride: u32,
  x_head_stride: u32,
  x_row_stride: u32,
  heads: u32,
  length: u32,
  members: u32,
  clusters: u32,
  groups: u32,
}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> centroids: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> labels: array<u32>;

const VECTORS = 16u; // vec4 of a row
const FARTHEST = 3.4028234e38;

// Rows are the tile's q, centroids its k.
var<workgroup> q_tile: array<vec4<f32>, 160>;
var<workgroup> k_tile: array<vec4<f32>, 160>;
var<workgroup> norms: array<f32, 32>;
var<workgroup> nearest: array<f32, 256>; // of a row and a column group of the tile: |c|² − 2 x·c,
var<workgroup> nearest_label: array<u32, 256>; // and c

fn workgroup_number(id: vec3<u32>) -> u32 {
  return u.first_workgroup + id.y * 65535u + id.x;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let number = workgroup_number(workgroup);
  if (number >= u.end_workgroup) { return; }
  let tiles = (u.length + 31u) / 32u;
  let segment = number / tiles;
  let first_row = number % tiles * 32u;
  let x_head = u.x_offset + segment / u.heads * u.x_batch_stride + segment % u.heads * u.x_head_stride;
  for (var i = local; i < 256u; i += 64u) {
    nearest[i] = FARTHEST;
    nearest_label[i] = 0u;
  }

  for (var first_column = 0u; first_column < u.clusters; first_column += 32u) {
    let cell_row = local / 8u * 4u;
    let cell_column = local % 8u * 4u;
    var sum0 = vec4<f32>(); var sum1 = vec4<f32>(); var sum2 = vec4<f32>(); var sum3 = vec4<f32>();
    var norm = 0.0; // of centroid first_column + local
    for (var first_vector = 0u; first_vector < VECTORS; first_vector += 4u) {
      workgroupBarrier();
      for (var index = local; index < 64u; index += 64u) {
        let row = first_row + index / 2u;
        let at = index / 2u * 5u + index % 2u * 2u;
        q_tile[at + 0u] = vec4<f32>(); q_tile[at + 1u] = vec4<f32>();
        if (row < u.length) {
          let unit = x[x_head + row * u.x_row_stride + first_vector / 2u + index % 2u];
          q_tile[at + 0u] = vec4<f32>(unpack2x16float(unit.x), unpack2x16float(unit.y));
          q_tile[at + 1u] = vec4<f32>(unpack2x16float(unit.z), unpack2x16float(unit.w));
        }
      }
      for (var index = local; index < 128u; index += 64u) {
        let c = first_column + index / 4u;
        let d = index % 4u;
        var value = vec4<f32>();
        if (c < u.clusters) { value = centroids[(segment * u.groups + c) * VECTORS + first_vector + d]; }
        k_tile[index / 4u * 5u + d] = value;
      }
      workgroupBarrier();
      if (local < 32u) {
        for (var d = 0u; d < 4u; d++) {
          let value = k_tile[local * 5u + d];
          norm += dot(value, value);
        }
      }
      for (var d = 0u; d < 4u; d++) {
        let q0 = q_tile[(cell_row + 0u) * 5u + d];
        let q1 = q_tile[(cell_row + 1u) * 5u + d];
        let q2 = q_tile[(cell_row + 2u) * 5u + d];
        let q3 = q_tile[(cell_row + 3u) * 5u + d];
        let k0 = k_tile[(cell_column + 0u) * 5u + d];
        let k1 = k_tile[(cell_column + 1u) * 5u + d];
        let k2 = k_tile[(cell_column + 2u) * 5u + d];
        let k3 = k_tile[(cell_column + 3u) * 5u + d];
        sum0 += vec4<f32>(dot(q0, k0), dot(q0, k1), dot(q0, k2), dot(q0, k3));
        sum1 += vec4<f32>(dot(q1, k0), dot(q1, k1), dot(q1, k2), dot(q1, k3));
        sum2 += vec4<f32>(dot(q2, k0), dot(q2, k1), dot(q2, k2), dot(q2, k3));
        sum3 += vec4<f32>(dot(q3, k0), dot(q3, k1), dot(q3, k2), dot(q3, k3));
      }
    }
    if (local < 32u) { norms[local] = norm; }
    workgroupBarrier();
    {
      let row = cell_row + 0u;
      let cells = sum0 * 2.0;
      let at = row * 8u + cell_column / 4u;
      for (var j = 0u; j < 4u; j++) {
        let distance = norms[cell_column + j] - cells[j];
        if (first_column + cell_column + j < u.clusters && distance < nearest[at]) {
          nearest[at] = distance;
          nearest_label[at] = first_column + cell_column + j;
        }
      }
    }
    {
      let row = cell_row + 1u;
      let cells = sum1 * 2.0;
      let at = row * 8u + cell_column / 4u;
      for (var j = 0u; j < 4u; j++) {
        let distance = norms[cell_column + j] - cells[j];
        if (first_column + cell_column + j < u.clusters && distance < nearest[at]) {
          nearest[at] = distance;
          nearest_label[at] = first_column + cell_column + j;
        }
      }
    }
    {
      let row = cell_row + 2u;
      let cells = sum2 * 2.0;
      let at = row * 8u + cell_column / 4u;
      for (var j = 0u; j < 4u; j++) {
        let distance = norms[cell_column + j] - cells[j];
        if (first_column + cell_column + j < u.clusters && distance < nearest[at]) {
          nearest[at] = distance;
          nearest_label[at] = first_column + cell_column + j;
        }
      }
    }
    {
      let row = cell_row + 3u;
      let cells = sum3 * 2.0;
      let at = row * 8u + cell_column / 4u;
      for (var j = 0u; j < 4u; j++) {
        let distance = norms[cell_column + j] - cells[j];
        if (first_column + cell_column + j < u.clusters && distance < nearest[at]) {
          nearest[at] = distance;
          nearest_label[at] = first_column + cell_column + j;
        }
      }
    }
  }

  workgroupBarrier();
  let row = first_row + local;
  if (local >= 32u || row >= u.length) { return; }
  var best = nearest[local * 8u];
  var label = nearest_label[local * 8u];
  for (var i = 1u; i < 8u; i++) {
    let distance = nearest[local * 8u + i];
    let candidate = nearest_label[local * 8u + i];
    if (distance < best || (distance == best && candidate < label)) {
      best = distance;
      label = candidate;
    }
  }
  labels[segment * u.length + row] = select(u.clusters, label, row < u.members);
}
