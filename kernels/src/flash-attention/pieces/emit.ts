import type { KernelSource } from '@sparse-attention/core'
import { uniformStruct } from '../../shared/uniforms.js'

/** Pieces that a plan's work is cut into at least, if it is long enough: as many workgroups as keep a large GPU busy. */
export const PIECES = 256

/** Pieces of rows that are cut: each row has at most one more than its share of PIECES. */
export const CUT_PIECES: number = 2 * PIECES

export const LENGTH_LANES = 64

export const rowLengthsUniforms = {
  /** Rows of blocks: B · Hq · row_blocks, and of one head. */
  rows: 'u32',
  row_blocks: 'u32',
  /** Query rows of each. Divides plan_block_q. */
  block_rows: 'u32',
  plan_block_q: 'u32',
  plan_block_k: 'u32',
  plan_rows: 'u32',
  plan_words: 'u32',
  query_length: 'u32',
  key_length: 'u32',
  query_offset: 'i32',
  causal: 'u32',
} as const

/** WGSL that counts the key blocks of each row of blocks, those behind its last visible key left out. */
export function emitRowLengths(): KernelSource {
  const code = `\
// lengths[r] = number of key blocks that row r of the plan computes; r = (batch · Hq + head) · row_blocks + row block.
//
// plan u32[B·Hq, plan_rows, plan_words]: bit c of a row is key block c. One invocation a row.
${uniformStruct('Uniforms', rowLengthsUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> plan: array<u32>;
@group(0) @binding(2) var<storage, read_write> lengths: array<u32>;

@compute @workgroup_size(${LENGTH_LANES})
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let row = id.x;
  if (row >= u.rows) { return; }
  let first_row = row % u.row_blocks * u.block_rows;
  let last_row = min(first_row + u.block_rows, u.query_length) - 1u;
  var end = u.key_length;
  if (u.causal != 0u) { end = u32(clamp(i32(last_row) + u.query_offset + 1, 0, i32(u.key_length))); }
  let blocks = (end + u.plan_block_k - 1u) / u.plan_block_k;
  let words = (row / u.row_blocks * u.plan_rows + first_row / u.plan_block_q) * u.plan_words;
  var length = 0u;
  for (var first = 0u; first < blocks; first += 32u) {
    var bits = plan[words + first / 32u];
    if (blocks - first < 32u) { bits &= (1u << (blocks - first)) - 1u; }
    length += countOneBits(bits);
  }
  lengths[row] = length;
}
`
  return {
    label: 'row-lengths',
    code,
    bindings: ['uniform', 'read', 'read_write'],
    workgroupSize: LENGTH_LANES,
    workgroupBytes: 0,
  }
}

export const rowPiecesUniforms = {
  rows: 'u32',
  row_blocks: 'u32',
  block_rows: 'u32',
  plan_block_q: 'u32',
  plan_rows: 'u32',
  plan_words: 'u32',
  key_blocks: 'u32',
  /** Key blocks that a piece of a row has at least. */
  least: 'u32',
  /** Room for pieces. */
  capacity: 'u32',
} as const

const SCHEDULE_LANES = 256
const BUCKETS = 128

/** WGSL that cuts long rows into pieces and puts all pieces in order, long ones first. */
export function emitRowPieces(): KernelSource {
  const code = `\
// pieces[i] = (row, first block, end block, slot): what one workgroup computes, long ones first, behind the last one of row
// NONE. A row of blocks that holds more than its share of all the work is cut: each of its pieces has a slot, from 1 on, for
// its part of the output, and cuts[j] = (row, its first slot, pieces, 0); behind the last one of 0 pieces.
// The order of pieces of about one length, and which slots a row has, may differ from run to run: no result depends on them.
//
// lengths u32[rows], plan as of row-lengths. One workgroup.
${uniformStruct('Uniforms', rowPiecesUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> plan: array<u32>;
@group(0) @binding(2) var<storage, read> lengths: array<u32>;
@group(0) @binding(3) var<storage, read_write> pieces: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> cuts: array<vec4<u32>>;

const LANES = ${SCHEDULE_LANES}u;
const PIECES = ${PIECES}u;
const BUCKETS = ${BUCKETS}u; // of piece lengths
const NONE = 0xffffffffu;

var<workgroup> total: atomic<u32>;
var<workgroup> next_slot: atomic<u32>;
var<workgroup> next_cut: atomic<u32>;
var<workgroup> buckets: array<atomic<u32>, BUCKETS>; // how many pieces; then where the next one goes

// How many pieces a row is cut into, and the blocks of each but the last.
fn cut_row(length: u32, share: u32) -> vec2<u32> {
  if (length <= share) { return vec2<u32>(1u, length); }
  let wanted = (length + share - 1u) / share;
  let size = (length + wanted - 1u) / wanted;
  return vec2<u32>((length + size - 1u) / size, size);
}

fn bucket_of(size: u32, share: u32) -> u32 {
  return BUCKETS - 1u - size * (BUCKETS - 1u) / share;
}

// The position behind the n-th set bit.
fn behind_bit(bits: u32, n: u32) -> u32 {
  var left = bits;
  for (var i = 1u; i < n; i++) { left &= left - 1u; }
  return firstTrailingBit(left) + 1u;
}

@compute @workgroup_size(${SCHEDULE_LANES})
fn main(@builtin(local_invocation_index) local: u32) {
  var own = 0u;
  for (var row = local; row < u.rows; row += LANES) { own += lengths[row]; }
  atomicAdd(&total, own);
  workgroupBarrier();
  let share = max(u.least, (atomicLoad(&total) + PIECES - 1u) / PIECES);

  for (var row = local; row < u.rows; row += LANES) {
    let cut = cut_row(lengths[row], share);
    atomicAdd(&buckets[bucket_of(cut.y, share)], cut.x);
  }
  workgroupBarrier();
  var before = 0u;
  var count = 0u;
  for (var i = 0u; i < BUCKETS; i++) {
    let filled = atomicLoad(&buckets[i]);
    if (i < local) { before += filled; }
    count += filled;
  }
  workgroupBarrier();
  if (local < BUCKETS) { atomicStore(&buckets[local], before); }
  workgroupBarrier();

  for (var row = local; row < u.rows; row += LANES) {
    let cut = cut_row(lengths[row], share);
    var at = atomicAdd(&buckets[bucket_of(cut.y, share)], cut.x);
    if (cut.x == 1u) {
      pieces[at] = vec4<u32>(row, 0u, u.key_blocks, 0u);
      continue;
    }
    var slot = atomicAdd(&next_slot, cut.x);
    cuts[atomicAdd(&next_cut, 1u)] = vec4<u32>(row, slot, cut.x, 0u);
    let last_at = at + cut.x - 1u;
    let words = (row / u.row_blocks * u.plan_rows + row % u.row_blocks * u.block_rows / u.plan_block_q) * u.plan_words;
    var first = 0u;
    var passed = 0u; // blocks before this word
    var end = cut.y; // of the present piece, among the row's blocks
    for (var word = 0u; at < last_at; word++) {
      let bits = plan[words + word];
      let passing = passed + countOneBits(bits);
      while (at < last_at && end <= passing) {
        let end_block = word * 32u + behind_bit(bits, end - passed);
        pieces[at] = vec4<u32>(row, first, end_block, slot + 1u);
        first = end_block;
        end += cut.y;
        at++;
        slot++;
      }
      passed = passing;
    }
    pieces[at] = vec4<u32>(row, first, u.key_blocks, slot + 1u);
  }
  for (var i = count + local; i < u.capacity; i += LANES) { pieces[i] = vec4<u32>(NONE, 0u, 0u, 0u); }
  workgroupBarrier();
  for (var i = atomicLoad(&next_cut) + local; i < PIECES; i += LANES) { cuts[i] = vec4<u32>(); }
}
`
  return {
    label: 'row-pieces',
    code,
    bindings: ['uniform', 'read', 'read', 'read_write', 'read_write'],
    workgroupSize: SCHEDULE_LANES,
    workgroupBytes: 12 + 4 * BUCKETS,
  }
}
