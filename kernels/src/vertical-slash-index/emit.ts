import type { KernelSource } from '@sparse-attention/core'
import { flagPlacesBytes, flagPlacesFunction } from '../shared/flag-places.js'
import { uniformStruct } from '../shared/uniforms.js'

/** Query rows of a block, and keys of a tile. */
export const TILE = 64

export const slashTilesUniforms = { slash_capacity: 'u32', buckets: 'u32' } as const

/** Slashes that are in workgroup memory at once. */
const CHUNK = 1024

/** Covers a head's slashes with tiles of offsets: one workgroup a head, one invocation of which goes through them. */
export function emitSlashTiles(): KernelSource {
  const code = `\
// Covers the offsets that a head's slashes ask for with disjoint tiles of ${TILE}. Rows at positions end − ${TILE} … end − 1 see slash
// o as keys end − 1 − x for x from o to o + ${TILE - 1}. From the smallest slash on, the first offset that is not covered starts a
// tile, so tiles are the same for all row blocks, up to where their keys begin.
//
// slashes i32[heads, slash_capacity], ascending; slash_counts i32[heads]. tile_of i32[heads, buckets]: the tile that starts in
// each ${TILE} offsets, of which there is at most one, or −1.
${uniformStruct('Uniforms', slashTilesUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> slash_counts: array<i32>;
@group(0) @binding(2) var<storage, read> slashes: array<i32>;
@group(0) @binding(3) var<storage, read_write> tile_of: array<i32>;

var<workgroup> chunk: array<i32, ${CHUNK}>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let head = workgroup.x;
  let first_bucket = head * u.buckets;
  for (var i = local; i < u.buckets; i += 64u) { tile_of[first_bucket + i] = -1; }
  storageBarrier();
  let count = u32(clamp(slash_counts[head], 0, i32(u.slash_capacity)));
  var covered = -1; // offsets below are covered, or asked for by no slash
  for (var first = 0u; first < count; first += ${CHUNK}u) {
    workgroupBarrier();
    for (var i = local; i < ${CHUNK}u && first + i < count; i += 64u) { chunk[i] = slashes[head * u.slash_capacity + first + i]; }
    workgroupBarrier();
    if (local == 0u) {
      let end = min(count - first, ${CHUNK}u);
      var i = 0u;
      while (i < end) {
        let tile = max(chunk[i], covered);
        let bucket = u32(tile) / ${TILE}u;
        if (chunk[i] + ${TILE} > covered) {
          if (bucket < u.buckets) { tile_of[first_bucket + bucket] = tile; }
          covered = tile + ${TILE};
        }
        i++;
        // Past the slashes that are covered, of which there are fewer than ${TILE}.
        for (var step = ${TILE / 2}u; step > 0u && i < end && chunk[i] + ${TILE} <= covered; step /= 2u) {
          if (i + step < end && chunk[i + step] + ${TILE} <= covered) { i += step; }
        }
      }
    }
  }
}
`
  return {
    label: 'slash-tiles',
    code,
    bindings: ['uniform', 'read', 'read', 'read_write'],
    workgroupSize: 64,
    workgroupBytes: CHUNK * 4,
  }
}

export const verticalSlashIndexUniforms = {
  heads: 'u32',
  query_blocks: 'u32',
  query_offset: 'i32',
  vertical_capacity: 'u32',
  buckets: 'u32',
  tile_capacity: 'u32',
  column_capacity: 'u32',
} as const

/** Tiles and columns of each row block from a head's verticals and tiles of offsets: one workgroup a row block. */
export function emitVerticalSlashIndex(): KernelSource {
  const code = `\
// For each block of ${TILE} query rows, the keys that its head's verticals and slashes ask for (MInference, arXiv 2407.02490,
// §3.2): tiles of ${TILE} keys that cover the slashes, and the verticals outside of them as single columns. Of a tile that would
// begin before key 0, the keys from 0 on are columns too.
//
// verticals i32[heads, vertical_capacity], ascending; vertical_counts i32[heads]; tile_of i32[heads, buckets]: the tile of
// offsets that starts in each ${TILE} of them, or −1. counts i32[2, heads, query_blocks]: tiles, columns; indices: tiles i32[heads,
// query_blocks, tile_capacity], then columns i32[heads, query_blocks, column_capacity], padded with −1.
//
// One workgroup of 256 a row block, an entry an invocation at a time. Keys ascend as offsets fall.
${uniformStruct('Uniforms', verticalSlashIndexUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> vertical_counts: array<i32>;
@group(0) @binding(2) var<storage, read> verticals: array<i32>;
@group(0) @binding(3) var<storage, read> tile_of: array<i32>;
@group(0) @binding(4) var<storage, read_write> counts: array<i32>;
@group(0) @binding(5) var<storage, read_write> indices: array<i32>;

var<workgroup> border_keys: u32;

${flagPlacesFunction}

// Does a tile of offsets hold offset x? One that does starts in the bucket of x or in the one before.
fn is_covered(first_bucket: u32, x: i32) -> bool {
  let bucket = u32(x) / ${TILE}u;
  let here = tile_of[first_bucket + bucket];
  if (here >= 0 && here <= x) { return true; }
  if (bucket == 0u) { return false; }
  let before = tile_of[first_bucket + bucket - 1u];
  return before >= 0 && x < before + ${TILE};
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let a = workgroup.x;
  let head = workgroup.y;
  let row = head * u.query_blocks + a;
  let end = i32((a + 1u) * ${TILE}u) + u.query_offset;
  let first_bucket = head * u.buckets;
  let first_tile = row * u.tile_capacity;
  let first_column = u.heads * u.query_blocks * u.tile_capacity + row * u.column_capacity;

  // Tiles whose offsets start below \`end\`.
  let buckets = min(u.buckets, (u32(max(end, 0)) + ${TILE - 1}u) / ${TILE}u);
  var tiles = 0u;
  for (var first = 0u; first < buckets; first += 256u) {
    var key = -1;
    if (first + local < buckets) {
      let tile = tile_of[first_bucket + buckets - 1u - first - local];
      if (tile >= 0 && tile < end) {
        key = end - tile - ${TILE};
        if (key < 0) { border_keys = u32(key + ${TILE}); }
      }
    }
    let place = tiles + flag_place(local, key >= 0);
    if (key >= 0 && place < u.tile_capacity) { indices[first_tile + place] = key; }
    tiles += flag_total();
  }
  tiles = min(tiles, u.tile_capacity);
  for (var i = tiles + local; i < u.tile_capacity; i += 256u) { indices[first_tile + i] = -1; }

  // The keys of the one tile that begins before key 0, then verticals.
  let border = workgroupUniformLoad(&border_keys);
  if (local < border) { indices[first_column + local] = i32(local); }
  var columns = border;
  let count = min(u32(max(vertical_counts[head], 0)), u.vertical_capacity);
  let first_vertical = head * u.vertical_capacity;
  for (var first = 0u; first < count; first += 256u) {
    if (verticals[first_vertical + first] >= end) { break; }
    var key = -1;
    if (first + local < count) {
      let vertical = verticals[first_vertical + first + local];
      if (vertical >= i32(border) && vertical < end && !is_covered(first_bucket, end - 1 - vertical)) { key = vertical; }
    }
    let place = columns + flag_place(local, key >= 0);
    if (key >= 0 && place < u.column_capacity) { indices[first_column + place] = key; }
    columns += flag_total();
  }
  columns = min(columns, u.column_capacity);
  for (var i = columns + local; i < u.column_capacity; i += 256u) { indices[first_column + i] = -1; }
  if (local == 0u) {
    counts[row] = i32(tiles);
    counts[u.heads * u.query_blocks + row] = i32(columns);
  }
}
`
  return {
    label: 'vertical-slash-index',
    code,
    bindings: ['uniform', 'read', 'read', 'read', 'read_write', 'read_write'],
    workgroupSize: 256,
    workgroupBytes: flagPlacesBytes + 4,
  }
}
