import type { KernelSource } from '@sparse-attention/core'
import { elementsPerUnit, indent, LOWEST, packUnit, range, unpackUnit } from '../shared/wgsl.js'
import {
  keysOfTile,
  moduleHeader,
  rowEnd,
  STEP,
  stageTiles,
  storageBindings,
  unitTargets,
  workgroupRows,
} from './frame.js'
import { type FlashAttentionOptions, ROWS } from './options.js'
import { voting } from './votes.js'
import { walks } from './walk.js'

/** Most head dimensions that one invocation holds in registers, for q and for the accumulator. */
const MAX_SLICE = 64

/** How rows are divided among invocations, and keys into tiles. */
export interface PortableTiling {
  /** Invocations of a row, each with a slice of head_dim. */
  readonly slices: number
  /** Of a tile in workgroup memory; a multiple of `step`. */
  readonly tileKeys: number
  /** Keys per online-softmax step. */
  readonly step: number
}

/** What is compiled where nothing better is known. */
export function portableTiling(headDim: number): PortableTiling {
  const slices = Math.ceil(headDim / MAX_SLICE)
  return { slices, tileKeys: keysOfTile(slices * portableSlice(headDim, slices)), step: STEP }
}

/** Elements of a row in each of its slices. */
export function portableSlice(headDim: number, slices: number): number {
  return Math.ceil(headDim / 8 / slices) * 8
}

/**
 * Flash attention forward, portable tier: plain WebGPU, f32 math, f32 or packed f16 storage.
 *
 * A row of queries belongs to `slices` invocations, each holding a slice of at most 64 dimensions of q and of the
 * accumulator. K and V pass through workgroup memory in small tiles that all rows read at the same address.
 */
export function emitPortable(
  options: FlashAttentionOptions,
  { slices, tileKeys, step }: PortableTiling = portableTiling(options.headDim),
): KernelSource {
  const { dtype, headDim, plan, skip = false } = options
  const slice = portableSlice(headDim, slices)
  const walk = walks[plan]
  const votes = voting(options, 'live && slice_index == 0u')
  const partial = slices > 1
  const perUnit = elementsPerUnit(dtype)
  const vec4PerUnit = perUnit / 4
  const rowVec4 = (slices * slice) / 4
  const workgroupSize = ROWS * slices
  const lanes = range(step)
  const targets = (array: string, at: string) => unitTargets(options, array, at)

  /** Dot products of this invocation's slice of q with STEP keys, the tile rows `keys[j]`. */
  const dots = (keys: (j: number) => string) => `\
${lanes.map((j) => `let k${j} = ${keys(j)} * ROW_VEC4 + first_vec4;`).join('\n')}
${lanes.map((j) => `var s${j} = 0.0;`).join(' ')}
for (var d = 0u; d < SLICE_VEC4; d++) {
  ${lanes.map((j) => `s${j} += dot(query[d], k_tile[k${j} + d]);`).join('\n  ')}
}`

  const partialScores = `
for (var j = 0u; j < TILE_KEYS; j += ${step}u) {
  ${indent(
    dots((j) => `(j + ${j}u)`),
    2,
  )}
  ${lanes.map((j) => `partial[(slice_index * TILE_KEYS + j + ${j}u) * ROWS + row_in_block] = s${j};`).join('\n  ')}
}
workgroupBarrier();`

  const sumOfPartials = lanes
    .map((j) => {
      const terms = range(slices).map((t) => `partial[(${t}u * TILE_KEYS + key${j}) * ROWS + row_in_block]`)
      return `let s${j} = ${terms.join(' + ')};`
    })
    .join('\n')

  /** Scores of STEP keys from the j-th of the tile on: s0, s1, … of tile rows key0, key1, … */
  const stepScores = `\
${lanes.map((j) => `let key${j} = min(j + ${j}u, visible - 1u);`).join('\n')}
${partial ? sumOfPartials : dots((j) => `key${j}`)}
let top = ${lanes.slice(1).reduce((max, j) => `max(${max}, s${j})`, 's0')};`

  /** BLASST (arXiv 2512.12087) and LiteAttention (2511.11062): a tile far below every row's maximum weighs nothing. */
  const vote = `
// Each row votes for the tile whose largest score may matter to it; without a vote nobody reads the tile's values.
if (live) {
  var tile_max = ${LOWEST};
  for (var j = 0u; j < visible; j += ${step}u) {
    ${indent(stepScores, 4)}
    tile_max = max(tile_max, top);
  }
  if (visible > 0u && tile_max - row_max > u.skip_threshold) { atomicStore(&votes, 1u); }
}
workgroupBarrier();
if (local == 0u) {
  // The bit of this tile in a bitmap of blocks of ROWS × TILE_KEYS; the row belongs to this workgroup alone.
  let voted = atomicExchange(&votes, 0u);
  let at = plan_row_block * u.kept_words + tile / TILE_KEYS / 32u;
  kept[at] |= voted << (tile / TILE_KEYS % 32u);
  compute = max(voted, 1u - u.skip_now);
}
let computed = workgroupUniformLoad(&compute);
if (computed == 0u) { continue; }`

  const tileBody = `\
${votes ? `${votes.enter('block')}\n` : ''}${stageTiles(options, workgroupSize)}${partial ? partialScores : ''}
// Keys of the tile that this row sees.
let visible = ${walk.visible};${skip ? vote : ''}
// Online softmax (Milakov and Gimelshein 2018), ${step} keys a step. Past the last visible key the lanes repeat
// it with weight 0: no row reads what it must not see, whatever lies there.
for (var j = 0u; j < visible; j += ${step}u) {
  ${indent(stepScores, 2)}${votes ? `\n  ${votes.cast('block', 'top - row_max > u.vote_threshold')}` : ''}
  if (top > row_max) {
    // The difference may overflow on huge logits; any number below −126 gives the same 0.
    let rescale = exp2(max(row_max - top, -1000.0));
    row_max = top;
    row_sum *= rescale;
    for (var d = 0u; d < SLICE_VEC4; d++) { acc[d] *= rescale; }
  }
  let p0 = exp2(s0 - row_max);
  ${lanes
    .slice(1)
    .map((j) => `let p${j} = select(0.0, exp2(s${j} - row_max), j + ${j}u < visible);`)
    .join('\n  ')}
  row_sum += ${lanes.map((j) => `p${j}`).join(' + ')};
  ${lanes.map((j) => `let v${j} = key${j} * ROW_VEC4 + first_vec4;`).join('\n  ')}
  for (var d = 0u; d < SLICE_VEC4; d++) {
    acc[d] += ${lanes.map((j) => `p${j} * v_tile[v${j} + d]`).join(' + ')};
  }
}`

  const workgroupMemory = [
    `var<workgroup> k_tile: array<vec4<f32>, ${tileKeys * rowVec4}>;`,
    `var<workgroup> v_tile: array<vec4<f32>, ${tileKeys * rowVec4}>;`,
    ...(partial
      ? [`var<workgroup> partial: array<f32, ${slices * tileKeys * ROWS}>; // scores of one slice: [slice][key][row]`]
      : []),
    ...(skip ? ['var<workgroup> votes: atomic<u32>;', 'var<workgroup> compute: u32;'] : []),
    ...[walk.declarations(tileKeys), votes?.declarations ?? ''].filter((text) => text !== ''),
  ]

  const code = `\
${moduleHeader(
  options,
  `A workgroup computes ${ROWS} query rows of one head with ${workgroupSize} invocations, ${slices} for each row.
Invocation (slice, row) holds ${slice} dimensions of its row's q and accumulator.`,
)}

const ROWS = ${ROWS}u;
const TILE_KEYS = ${tileKeys}u;
const UNITS = ${headDim / perUnit}u; // 16-byte units of one row in memory
const TILE_UNITS = ${(slices * slice) / perUnit}u; // the same, padded to whole slices
const SLICE_UNITS = ${slice / perUnit}u;
const ROW_VEC4 = ${rowVec4}u; // vec4 of one row of a tile
const SLICE_VEC4 = ${slice / 4}u;

${workgroupMemory.join('\n')}

@compute @workgroup_size(${workgroupSize})
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  ${indent(workgroupRows(options), 2)}
  let row_in_block = local % ROWS;
  let slice_index = local / ROWS;
  let first_vec4 = slice_index * SLICE_VEC4;
  let first_unit = slice_index * SLICE_UNITS;
  let row = first_row + row_in_block;
  let live = row < end_row;

  // Keys before these ends are visible: to this row, and to any row of the workgroup.
  let row_end = ${rowEnd(options, 'row')};
  let block_end = ${rowEnd(options, 'end_row - 1u')};

  let q_row = u.q_offset + batch * u.q_batch_stride + head * u.q_head_stride + row * u.q_row_stride + first_unit;
  var query: array<vec4<f32>, SLICE_VEC4>;
  for (var i = 0u; i < SLICE_UNITS; i++) {
    if (live && first_unit + i < UNITS) {
      let unit = q[q_row + i];
      ${indent(unpackUnit(dtype, 'unit', targets('query', `i * ${vec4PerUnit}u`)), 6)}
    }
  }
  // Scaled before the product: huge f16 inputs would lose more after it.
  for (var d = 0u; d < SLICE_VEC4; d++) { query[d] *= u.scale; }
  var acc: array<vec4<f32>, SLICE_VEC4>;
  var row_max = ${LOWEST};
  var row_sum = 0.0;${votes ? `\n  ${indent(votes.start, 2)}` : ''}
${
  skip
    ? `
  let plan_row_block = (batch * u.query_heads + head) * ((u.query_length + ROWS - 1u) / ROWS) + row_block;
  for (var word = local; word < u.kept_words; word += ${workgroupSize}u) { kept[plan_row_block * u.kept_words + word] = 0u; }
  storageBarrier();
`
    : ''
}
  ${indent(walk.tiles(tileBody), 2)}${votes ? `\n  ${votes.end}` : ''}

  if (!live) { return; }
  let empty = row_sum == 0.0;
  let inverse = select(1.0 / row_sum, 0.0, empty);
  let out_row = u.out_offset + batch * u.out_batch_stride + head * u.out_head_stride + row * u.out_row_stride + first_unit;
  for (var d = 0u; d < SLICE_VEC4; d++) { acc[d] *= inverse; }
  for (var i = 0u; i < SLICE_UNITS; i++) {
    if (first_unit + i < UNITS) { out[out_row + i] = ${packUnit(dtype, targets('acc', `i * ${vec4PerUnit}u`))}; }
  }
  if (slice_index == 0u) {
    let natural = (row_max + log2(row_sum)) * 0.6931471805599453;
    lse[(batch * u.query_heads + head) * u.query_length + row] = select(bitcast<u32>(natural), 0xff800000u, empty);
  }
}
`
  return {
    label: `flash-attention${plan === 'block' ? '' : `-${plan}`}${skip ? '-skip' : ''}`,
    code,
    bindings: ['uniform', ...storageBindings(options).map(({ kind }) => kind)],
    workgroupSize,
    workgroupBytes:
      2 * tileKeys * rowVec4 * 16 +
      (partial ? slices * tileKeys * ROWS * 4 : 0) +
      walk.workgroupBytes(tileKeys) +
      (skip ? 8 : 0),
  }
}
