import type { KernelSource } from '@sparse-attention/core'
import { gridUniforms, workgroupNumberFunction } from '../shared/grid.js'
import { uniformStruct } from '../shared/uniforms.js'

/** Invocations of a workgroup, and rows that it ranks at once. */
export const SORT_CHUNK = 256

/** Most bins of one pass: with more, a radix sort moves less. */
export const MOST_BINS = 4096

export const sortUniforms = {
  ...gridUniforms,
  /** Rows of a segment. */
  length: 'u32',
  bins: 'u32',
  /** Tiles of a segment, and rows of a tile. */
  tiles: 'u32',
  tile_length: 'u32',
  /** A row's bin is (key >> shift) & mask, or the last one where that is above it. */
  shift: 'u32',
  mask: 'u32',
} as const

const binFunction = `\
fn bin_of(key: u32) -> u32 {
  return min((key >> u.shift) & u.mask, u.bins - 1u);
}`

/** Bins that a workgroup counts at once: few, because drivers clear workgroup memory and compile large arrays slowly. */
const WINDOW = 1024

/** How many rows of each tile fall into each bin. */
export function emitSortHistogram(): KernelSource {
  const code = `\
// counts[s, bin, tile] = how many rows of a tile of segment s fall into a bin. Bins lie outside tiles, so that a scan over
// everything gives the place of each tile's first row of each bin in the sorted order.
//
// Axes: keys u32 [segments, length]; counts u32 [segments, bins, tiles]. One workgroup of ${SORT_CHUNK} a tile, which walks over it
// once for every ${WINDOW} bins.
${uniformStruct('Uniforms', sortUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> keys: array<u32>;
@group(0) @binding(2) var<storage, read_write> counts: array<u32>;

var<workgroup> in_bin: array<atomic<u32>, ${WINDOW}>; // of the bins in work; zeros at first

${workgroupNumberFunction}

${binFunction}

@compute @workgroup_size(${SORT_CHUNK})
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let number = workgroup_number(workgroup);
  if (number >= u.end_workgroup) { return; }
  let segment = number / u.tiles;
  let tile = number % u.tiles;
  let end = min((tile + 1u) * u.tile_length, u.length);
  for (var window = 0u; window < u.bins; window += ${WINDOW}u) {
    for (var i = tile * u.tile_length + local; i < end; i += ${SORT_CHUNK}u) {
      let bin = bin_of(keys[segment * u.length + i]) - window; // wraps below the window
      if (bin < ${WINDOW}u) { atomicAdd(&in_bin[bin], 1u); }
    }
    workgroupBarrier();
    for (var bin = local; bin < min(${WINDOW}u, u.bins - window); bin += ${SORT_CHUNK}u) {
      counts[(segment * u.bins + window + bin) * u.tiles + tile] = atomicExchange(&in_bin[bin], 0u);
    }
    workgroupBarrier();
  }
}
`
  return {
    label: 'sort-histogram',
    code,
    bindings: ['uniform', 'read', 'read_write'],
    workgroupSize: SORT_CHUNK,
    workgroupBytes: WINDOW * 4,
  }
}

/**
 * Moves rows to their places, in order within a bin.
 *
 * - `order`: writes the rows' indices, and where each bin starts: a counting sort
 * - `pairs`: writes keys with the values that come with them; `indices`: with the rows' indices: passes of a radix sort
 */
export function emitSortScatter({ moves }: { readonly moves: 'order' | 'pairs' | 'indices' }): KernelSource {
  const bindings = {
    order: `\
@group(0) @binding(3) var<storage, read_write> order: array<i32>;
@group(0) @binding(4) var<storage, read_write> starts: array<i32>;`,
    indices: `\
@group(0) @binding(3) var<storage, read_write> sorted_keys: array<u32>;
@group(0) @binding(4) var<storage, read_write> sorted_values: array<i32>;`,
    pairs: `\
@group(0) @binding(3) var<storage, read_write> sorted_keys: array<u32>;
@group(0) @binding(4) var<storage, read_write> sorted_values: array<i32>;
@group(0) @binding(5) var<storage, read> values: array<i32>;`,
  }[moves]
  const value = moves === 'pairs' ? 'values[segment * u.length + i]' : 'i32(i)'
  const code = `\
// Moves the rows of each segment to where their bins lie in the sorted order; rows of one bin keep their order.
//
// Axes: keys u32 [segments, length]; offsets u32 [segments, bins, tiles]: where the next row of a bin and tile goes, counted
// over all segments, used up on return; ${
    moves === 'order'
      ? `order i32 [segments, length]: the row that comes i-th;
// starts i32 [segments, bins + 1]: the place of each bin's first row in its segment.`
      : `${moves === 'pairs' ? 'values, sorted_values i32, ' : 'sorted_values i32, a row’s index, '}sorted_keys u32 [segments, length].`
  }
//
// One workgroup of ${SORT_CHUNK} a tile, ${SORT_CHUNK} rows at a time: an invocation counts the rows of its bin before its own. A tile's
// offsets belong to its workgroup alone, so nothing depends on timing.
${uniformStruct('Uniforms', sortUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> keys: array<u32>;
@group(0) @binding(2) var<storage, read_write> offsets: array<u32>;
${bindings}

const NO_BIN = 0xffffffffu;

var<workgroup> chunk: array<u32, ${SORT_CHUNK}>; // bins of the rows in work

${workgroupNumberFunction}

${binFunction}

@compute @workgroup_size(${SORT_CHUNK})
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let number = workgroup_number(workgroup);
  if (number >= u.end_workgroup) { return; }
  let segment = number / u.tiles;
  let tile = number % u.tiles;
  let first_offset = segment * u.bins * u.tiles + tile;
${
  moves === 'order'
    ? `\
  if (tile == 0u) {
    for (var bin = local; bin < u.bins; bin += ${SORT_CHUNK}u) {
      starts[segment * (u.bins + 1u) + bin] = i32(offsets[first_offset + bin * u.tiles] - segment * u.length);
    }
    if (local == 0u) { starts[(segment + 1u) * (u.bins + 1u) - 1u] = i32(u.length); }
    storageBarrier(); // the offsets move on below
  }
`
    : ''
}\
  let end = min((tile + 1u) * u.tile_length, u.length);
  for (var first = tile * u.tile_length; first < end; first += ${SORT_CHUNK}u) {
    let i = first + local;
    var key = 0u;
    var bin = NO_BIN;
    if (i < end) {
      key = keys[segment * u.length + i];
      bin = bin_of(key);
    }
    workgroupBarrier();
    chunk[local] = bin;
    workgroupBarrier();
    var before = 0u;
    var all = 0u;
    for (var j = 0u; j < ${SORT_CHUNK}u; j++) {
      let same = select(0u, 1u, chunk[j] == bin);
      all += same;
      before += select(0u, same, j < local);
    }
    let offset = first_offset + min(bin, u.bins - 1u) * u.tiles;
    let place = offsets[offset] + before;
    storageBarrier(); // all have read where their bins go on
    if (i < end) {
      ${
        moves === 'order'
          ? 'order[place] = i32(i);'
          : `sorted_keys[place] = key;
      sorted_values[place] = ${value};`
      }
      if (before + 1u == all) { offsets[offset] = place + 1u; }
    }
    storageBarrier();
  }
}
`
  return {
    label: moves === 'order' ? 'counting-sort-scatter' : `radix-sort-scatter-${moves}`,
    code,
    bindings:
      moves === 'pairs'
        ? ['uniform', 'read', 'read_write', 'read_write', 'read_write', 'read']
        : ['uniform', 'read', 'read_write', 'read_write', 'read_write'],
    workgroupSize: SORT_CHUNK,
    workgroupBytes: SORT_CHUNK * 4,
  }
}
