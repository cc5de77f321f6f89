import type { KernelSource } from '@sparse-attention/core'
import { elementsPerUnit, indent, LOWEST, packUnit, range, unpackUnit } from '../shared/wgsl.js'
import { keysOfTile, moduleHeader, rowEnd, STEP, stageTiles, storageBindings, workgroupRows } from './frame.js'
import { type FlashAttentionOptions, ROWS } from './options.js'
import { voting } from './votes.js'
import { walks } from './walk.js'

/**
 * Invocations that share rows, each with every fourth 16-byte unit of head_dim: every subgroup has at least as many lanes.
 * Neighbouring lanes read neighbouring units of a tile, so none waits for another's memory bank.
 */
const SLICES = 4

/** How a lane works, besides its slice of head_dim. */
export interface SubgroupTiling {
  /** 1, 2, 4 or 8: what a lane reads of K and V serves them all. */
  readonly rowsPerLane: number
  /** Of a tile in workgroup memory; a multiple of `step`. */
  readonly tileKeys: number
  /** Keys per online-softmax step. */
  readonly step: number
}

/** Elements of a row that a lane holds of q, and again of the accumulator. */
export function subgroupSlice(headDim: number): number {
  return Math.ceil(headDim / 8 / SLICES) * 8
}

/** What is compiled where nothing better is known. */
export function subgroupTiling(headDim: number): SubgroupTiling {
  const slice = subgroupSlice(headDim)
  // q and the accumulator of its rows are what a lane holds in registers: about 128 numbers.
  const rowsPerLane = slice <= 16 ? 4 : slice <= 32 ? 2 : 1
  return { rowsPerLane, tileKeys: keysOfTile(SLICES * slice), step: STEP }
}

/**
 * Flash attention forward, tier `f16`: subgroups add up partial products, so that each invocation works for several rows
 * and what it reads of K and V serves them all; f32 math, since sums of halves would overflow.
 */
export function emitSubgroup(
  options: FlashAttentionOptions,
  { rowsPerLane, tileKeys, step }: SubgroupTiling = subgroupTiling(options.headDim),
): KernelSource {
  const { dtype, headDim, plan } = options
  const slice = subgroupSlice(headDim)
  const walk = walks[plan]
  const perUnit = elementsPerUnit(dtype)
  const vec4PerUnit = perUnit / 4
  // Rows that do not exist see no key, and so never vote.
  const votes = voting(options, 'slice_index == 0u')
  const rowVec4 = (SLICES * slice) / 4
  const sliceUnits = slice / perUnit
  const workgroupSize = (ROWS / rowsPerLane) * SLICES
  const keys = range(step)
  const rows = range(rowsPerLane)
  const vectors = range(slice / 4)
  /** Where a lane's d-th vec4 lies in a row of a tile, from its first one on. */
  const offset = (d: number) => Math.floor(d / vec4PerUnit) * SLICES * vec4PerUnit + (d % vec4PerUnit)
  const unitOf = (i: number) => `slice_index + ${i * SLICES}u`

  const score = (j: number, r: number) => `s${j}_${r}`
  const sumOverSlices = keys
    .flatMap((j) =>
      rows.map((r) =>
        [1, 2].map((lanes) => `${score(j, r)} += subgroupShuffleXor(${score(j, r)}, ${lanes}u);`).join(' '),
      ),
    )
    .join('\n')

  const rescale = (r: number) => `\
let top${r} = ${keys.slice(1).reduce((max, j) => `max(${max}, ${score(j, r)})`, score(0, r))};${votes ? `\n${votes.cast('block', `j < visible${r} && top${r} - row_max${r} > u.vote_threshold`)}` : ''}
if (top${r} > row_max${r}) {
  // The difference may overflow on huge logits; any number below −126 gives the same 0.
  let rescale = exp2(max(row_max${r} - top${r}, -1000.0));
  row_max${r} = top${r};
  row_sum${r} *= rescale;
  ${vectors.map((d) => `acc${r}_${d} *= rescale;`).join(' ')}
}
${keys.map((j) => `let p${j}_${r} = select(0.0, exp2(${score(j, r)} - row_max${r}), j + ${j}u < visible${r});`).join('\n')}
row_sum${r} += ${keys.map((j) => `p${j}_${r}`).join(' + ')};`

  /** Weighted values. `careful`: a key that a row does not see adds nothing, also where its value is NaN. */
  const accumulate = (careful: boolean) =>
    vectors
      .map((d) => {
        const values = keys.map((j) => `let v${j}_${d} = v_tile[at${j} + ${offset(d)}u];`).join(' ')
        const sums = rows.map((r) => {
          const terms = keys.map((j) => {
            const product = `p${j}_${r} * v${j}_${d}`
            return careful ? `select(vec4<f32>(), ${product}, j + ${j}u < visible${r})` : product
          })
          return `acc${r}_${d} += ${terms.join(' + ')};`
        })
        return [values, ...sums].join('\n')
      })
      .join('\n')

  const enterTile = votes ? `${votes.enter('block')}\n` : ''
  const tileBody = `\
${enterTile}${stageTiles(options, workgroupSize)}
// Keys of the tile that each of the lane's rows sees: the later the row, the more.
${rows.map((r) => `let visible${r} = ${walk.visible.replaceAll('row_end', `row_end${r}`)};`).join('\n')}
// Online softmax (Milakov and Gimelshein 2018), ${step} keys a step, as far as any row sees.
let tile_end = min(TILE_KEYS, ${walk.end} - tile);
for (var j = 0u; j < tile_end; j += ${step}u) {
  ${keys.map((j) => `let at${j} = (j + ${j}u) * ROW_VEC4 + first_vec4;`).join(' ')}
  ${keys.flatMap((j) => rows.map((r) => `var ${score(j, r)} = 0.0;`)).join(' ')}
  ${vectors
    .map(
      (d) => `${keys.map((j) => `let k${j}_${d} = k_tile[at${j} + ${offset(d)}u];`).join(' ')}
  ${keys.map((j) => rows.map((r) => `${score(j, r)} += dot(q${r}_${d}, k${j}_${d});`).join(' ')).join('\n  ')}`,
    )
    .join('\n  ')}
  ${indent(sumOverSlices, 2)}
  ${keys.map((j) => rows.map((r) => `${score(j, r)} = select(${LOWEST}, ${score(j, r)}, j + ${j}u < visible${r});`).join(' ')).join('\n  ')}
  ${rows.map((r) => indent(rescale(r), 2)).join('\n  ')}
  if (${rows.map((r) => `j + ${step}u <= visible${r}`).join(' && ')}) {
    ${indent(accumulate(false), 4)}
  } else {
    ${indent(accumulate(true), 4)}
  }
}`

  const loadQuery = (r: number) => `\
${vectors.map((d) => `var q${r}_${d} = vec4<f32>();`).join(' ')}
let row${r} = first_row + first_of_lane + ${r}u;
let row_end${r} = select(0u, ${rowEnd(options, `row${r}`)}, row${r} < end_row);
if (row${r} < end_row) {
  let q_row = u.q_offset + batch * u.q_batch_stride + head * u.q_head_stride + row${r} * u.q_row_stride;
  ${range(sliceUnits)
    .map((i) => {
      const targets = range(vec4PerUnit).map((n) => `q${r}_${i * vec4PerUnit + n}`)
      return `if (${unitOf(i)} < UNITS) {
    let unit = q[q_row + ${unitOf(i)}];
    ${indent(unpackUnit(dtype, 'unit', targets), 4)}
  }`
    })
    .join('\n  ')}
}
// Scaled before the product: huge f16 inputs would lose more after it.
${vectors.map((d) => `q${r}_${d} *= u.scale;`).join(' ')}
${vectors.map((d) => `var acc${r}_${d} = vec4<f32>();`).join(' ')}
var row_max${r} = ${LOWEST};
var row_sum${r} = 0.0;`

  const writeRow = (r: number) => `\
if (row${r} < end_row) {
  let empty = row_sum${r} == 0.0;
  let inverse = select(1.0 / row_sum${r}, 0.0, empty);
  let out_row = u.out_offset + batch * u.out_batch_stride + head * u.out_head_stride + row${r} * u.out_row_stride;
  ${vectors.map((d) => `acc${r}_${d} *= inverse;`).join(' ')}
  ${range(sliceUnits)
    .map((i) => {
      const values = range(vec4PerUnit).map((n) => `acc${r}_${i * vec4PerUnit + n}`)
      return `if (${unitOf(i)} < UNITS) { out[out_row + ${unitOf(i)}] = ${packUnit(dtype, values)}; }`
    })
    .join('\n  ')}
  if (slice_index == 0u) {
    let natural = (row_max${r} + log2(row_sum${r})) * 0.6931471805599453;
    lse[(batch * u.query_heads + head) * u.query_length + row${r}] = select(bitcast<u32>(natural), 0xff800000u, empty);
  }
}`

  const code = `\
enable subgroups;

${moduleHeader(
  options,
  `A workgroup computes ${ROWS} query rows of one head with ${workgroupSize} invocations. ${SLICES} neighbouring lanes share ${rowsPerLane} rows,
each with ${slice} dimensions of q and of the accumulator.`,
)}

const ROWS = ${ROWS}u;
const TILE_KEYS = ${tileKeys}u;
const UNITS = ${headDim / perUnit}u; // 16-byte units of one row in memory
const TILE_UNITS = ${(SLICES * slice) / perUnit}u; // the same, padded to whole slices
const ROW_VEC4 = ${rowVec4}u; // vec4 of one row of a tile

var<workgroup> k_tile: array<vec4<f32>, ${tileKeys * rowVec4}>;
var<workgroup> v_tile: array<vec4<f32>, ${tileKeys * rowVec4}>;
${walk.declarations(tileKeys)}${votes ? `\n${votes.declarations}` : ''}

@compute @workgroup_size(${workgroupSize})
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  ${indent(workgroupRows(options), 2)}
  // Lanes of a subgroup are taken to be neighbours in the workgroup, in its order.
  let slice_index = local % ${SLICES}u;
  let first_of_lane = local / ${SLICES}u * ${rowsPerLane}u;
  let first_vec4 = slice_index * ${vec4PerUnit}u;
  let block_end = ${rowEnd(options, 'end_row - 1u')};

  ${rows.map((r) => indent(loadQuery(r), 2)).join('\n  ')}${votes ? `\n  ${indent(votes.start, 2)}` : ''}

  ${indent(walk.tiles(tileBody), 2)}${votes ? `\n  ${votes.end}` : ''}

  ${rows.map((r) => indent(writeRow(r), 2)).join('\n  ')}
}
`
  return {
    label: `flash-attention${plan === 'block' ? '' : `-${plan}`}-subgroup`,
    code,
    bindings: ['uniform', ...storageBindings(options).map(({ kind }) => kind)],
    workgroupSize,
    workgroupBytes: 2 * tileKeys * rowVec4 * 16 + walk.workgroupBytes(tileKeys),
  }
}
