import type { KernelSource, SubgroupMatrix } from '@sparse-attention/core'
import { matrixDialect } from '../../shared/subgroup-matrix.js'
import { indent } from '../../shared/wgsl.js'
import { moduleHeader, rowEnd, storageBindings } from '../frame.js'
import type { FlashAttentionOptions } from '../options.js'
import { voting } from '../votes.js'
import { walks } from '../walk.js'
import { LANES, type MatrixGeometry, matrixLayout, matrixMemories, TILE_KEYS, workgroupBytes } from './geometry.js'
import { products } from './products.js'
import { softmax } from './softmax.js'
import { staging } from './staging.js'
import { pieceWalk, pulledWalks } from './walk.js'
import { lateRowsFirst, pieceWork, rowsOfHeads } from './work.js'

export interface MatrixFlashOptions
  extends Pick<FlashAttentionOptions, 'causal' | 'headDim' | 'plan' | 'votes' | 'pieces'> {
  readonly geometry: MatrixGeometry
  readonly subgroupMatrix: SubgroupMatrix
}

/**
 * Flash attention forward, matrix tier: f16 in and out, f32 accumulation, both products on subgroup matrices.
 *
 * Queries and the output's accumulators stay in registers. Elements of a subgroup matrix cannot be read, so scores go
 * through workgroup memory, where one or two lanes a row turn them into f16 weights in place.
 *
 * Where a tile holds keys that a row does not see, their values are multiplied by 0. So that NaN and ∞ in V stay with the
 * rows that see them, such tiles are staged without, and rows that see them give NaN.
 */
export function emitMatrix({
  headDim,
  causal,
  plan,
  votes: voteKeys,
  pieces = false,
  geometry,
  subgroupMatrix,
}: MatrixFlashOptions): KernelSource {
  const options = { dtype: 'f16', headDim, causal, plan, ...(voteKeys && { votes: voteKeys }), pieces } as const
  const dialect = matrixDialect(subgroupMatrix)
  const layout = matrixLayout(headDim, geometry)
  const { rows, subgroups, subgroupRows, lanesPerRow, units, tilePitch, scorePitch, vectors } = layout
  const { weightPitch, weightUnit, valueTiles } = layout
  const { M, N, K } = dialect.shape
  const walk = pieces ? pieceWalk : pulledWalks[plan]
  const work = pieces ? pieceWork : causal ? lateRowsFirst : rowsOfHeads
  const product = products(dialect, layout)
  const weights = softmax(dialect, layout, walk)
  const tiles = staging(dialect, layout, walk)
  const votes = voting(options, 'live && part == 0u')

  const clearTainted = `if (local == 0u) { atomicStore(&${layout.tainted}, 0u); }`
  const scoresHold = `f32 [row][key]${valueTiles === 2 ? '' : '; then f16 weights'}`
  // Lines of the loop that only kernels with so many tiles of values have.
  const linesOf = (having: readonly number[], lines: string) =>
    having.includes(valueTiles) ? `\n    ${indent(lines, 4)}` : ''

  const code = `\
${dialect.directives}

${moduleHeader(
  options,
  `A workgroup computes ${rows} query rows of one head, each of its ${subgroups} subgroups ${subgroupRows} of them, on subgroup matrices of
${M}×${N}×${K}: f16 operands, f32 results. It advances ${TILE_KEYS} keys at a time.`,
)}

${dialect.types}

const KEYS = ${TILE_KEYS}u; // of a tile
const LANES = ${LANES}u; // of a subgroup
const LANES_PER_ROW = ${lanesPerRow}u;
const ROWS = ${rows}u;
const UNITS = ${units}u; // 16-byte units of one row in memory
const TILE_UNITS = ${TILE_KEYS * units}u;
const TILE_PITCH = ${tilePitch}u; // units from row to row of a tile: odd, which spreads rows over the memory banks
const SCORE_PITCH = ${scorePitch}u;
const NONE = 0x80000000u;
const OUTGROWN = 3u; // of the flags: weights of some row would no longer fit f16

${matrixMemories(layout)
  .map((memory) => dialect.declare(memory, memory === layout.scores ? scoresHold : undefined))
  .join('\n')}
var<workgroup> flags: array<atomic<u32>, 4>; // 16 bytes, as all else is multiples of: matrices must be aligned

${walk.declarations}${votes ? `\n\n${votes.declarations}` : ''}

fn pack(a: vec4<f32>, b: vec4<f32>) -> vec4<u32> {
  return vec4<u32>(pack2x16float(a.xy), pack2x16float(a.zw), pack2x16float(b.xy), pack2x16float(b.zw));
}

// All bits of those halves of a unit that are NaN or ±∞: their exponent is all ones.
fn not_finite(unit: vec4<u32>) -> vec4<u32> {
  let carries = ((unit & vec4<u32>(0x7fff7fff)) + vec4<u32>(0x04000400)) & vec4<u32>(0x80008000);
  return (carries >> vec4<u32>(15)) * 0xffffu;
}

fn query_unit(at: u32, live: bool, sign: u32) -> vec4<u32> {
  var unit = vec4<u32>();
  if (live) { unit = q[at] ^ vec4<u32>(sign); }
  return unit;
}

// Rounded weights may sum to more than exact ones: that must not make a value infinite that f16 holds.
fn in_range(x: vec4<f32>) -> vec4<f32> {
  return select(x, clamp(x, vec4<f32>(-65504.0), vec4<f32>(65504.0)), abs(x) < vec4<f32>(131072.0));
}

fn output_unit(a: vec4<f32>, b: vec4<f32>, inverse: f32) -> vec4<u32> {
  return pack(in_range(a * inverse), in_range(b * inverse));
}

@compute @workgroup_size(${layout.workgroupSize})
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
  @builtin(subgroup_id) subgroup: u32,
) {
  ${indent(work.find, 2)}
  let kv_head = head / u.group_size;
  ${indent(walks[plan].rows(rows), 2)}

  // This lane's row, and which ${vectors * 4} of a tile's ${TILE_KEYS} scores it turns into weights.
  let row = first_row + local / LANES_PER_ROW;
  let part = local % LANES_PER_ROW;
  let live = row < end_row;
  let score_row = local % LANES / LANES_PER_ROW * SCORE_PITCH;
  let score_at = score_row + part * ${vectors}u;
  let weight_at = local % LANES / LANES_PER_ROW * ${weightPitch}u + ${weightUnit}u + part * ${vectors / 2}u;

  // Keys before these ends are visible: to this row, to every row of the workgroup, to some row.
  let row_end = ${rowEnd(options, 'row')};
  let full_end = ${rowEnd(options, 'first_row')};
  let block_end = ${work.end(rowEnd(options, 'end_row - 1u'))};

  // A negative scale turns the signs of q, so that the largest product has the largest score. At a scale of 0 every score
  // is still 0 in f32, but that of keys that a row does not see must stay far below.
  let scale = max(abs(u.scale), 1.0e-30);
  let sign = select(0u, 0x80008000u, u.scale < 0.0);
  let unseen = -1.0e30 / max(scale, 1.0e-8);

  let q_row = u.q_offset + batch * u.q_batch_stride + head * u.q_head_stride + row * u.q_row_stride;
  let k_head = u.k_offset + batch * u.k_batch_stride + kv_head * u.k_head_stride;
  let v_head = u.v_offset + batch * u.v_batch_stride + kv_head * u.v_head_stride;
  ${indent(product.loadQuery, 2)}

  ${indent(tiles.lane, 2)}
  ${indent(product.clearOutput, 2)}
  var reference = 0.5 * unseen; // below the score of any key, above that of unseen ones
  var row_sum = 0.0;
  var row_tainted = false;${
    votes
      ? `
  ${indent(votes.start, 2)}
  var row_top = unseen; // largest score, not scaled`
      : ''
  }

  ${indent(walk.start, 2)}${valueTiles === 2 ? '\n  var stage = 1u; // which of the two tiles of values is the present one' : ''}
  {
    ${indent(tiles.fetch, 4)}
    ${indent(tiles.putKeys, 4)}${linesOf([1, 2], tiles.putValues)}
  }
  workgroupBarrier();
  while (walk.tile != NONE) {${linesOf([0], tiles.fetchValues)}
    let now = walk;
    ${indent(walk.advance, 4)}${linesOf([2], 'stage = 1u - stage;')}${linesOf([1, 2], tiles.fetch)}

    ${indent(product.scores, 4)}
    workgroupBarrier();
${linesOf([0], tiles.fetch)}
    ${indent(weights.weigh, 4)}${
      votes
        ? `
    if (u.vote != 0u) {
      let block = now.tile / VOTE_KEYS;
      ${indent(votes.enter('block'), 6)}
      ${votes.cast('block', 'seen > 0u && (top - row_top) * scale > u.vote_threshold')}
      row_top = max(row_top, top);
    }`
        : ''
    }${linesOf([1, 2], tiles.putKeys)}${linesOf([0, 2], tiles.putValues)}

    // Rare. Waits for all weights and ${valueTiles === 0 ? 'values' : 'the next keys'} in any case.
    if (workgroupUniformLoad(&flags[OUTGROWN]) != 0u) {
      ${indent(weights.moveReference, 6)}
      if (local == 0u) { atomicStore(&flags[OUTGROWN], 0u); }
      ${indent(product.rescaleOutput, 6)}
      ${indent(weights.weighAgain, 6)}
      workgroupBarrier();
    }
    row_sum += sum;${linesOf([0], weights.taint)}${linesOf([1, 2], clearTainted)}

    ${indent(product.values, 4)}${linesOf([0, 1], 'workgroupBarrier();')}${linesOf([1], tiles.putValues)}${linesOf([0], `${clearTainted}\n${tiles.putKeys}\nworkgroupBarrier();`)}
  }

${votes ? `  ${votes.end}\n` : ''}  let empty = row_sum == 0.0;
  var inverse = select(1.0 / row_sum, 0.0, empty);
  if (row_tainted) { inverse = bitcast<f32>(0x7fc00000u | (local & 1u)); }
  let natural = (reference * scale + log2(row_sum)) * 0.6931471805599453;
  let lse_bits = select(bitcast<u32>(natural), 0xff800000u, empty);
  ${indent(work.outputRow, 2)}
  ${indent(product.writeOutput(work.storeUnit), 2)}
  if (live && part == 0u) { ${work.storeLse} }
}
`
  return {
    label: `flash-attention${plan === 'block' ? '' : `-${plan}`}`,
    code,
    bindings: ['uniform', ...storageBindings(options).map(({ kind }) => kind)],
    workgroupSize: layout.workgroupSize,
    workgroupBytes: workgroupBytes(dialect, layout) + walk.workgroupBytes,
  }
}
