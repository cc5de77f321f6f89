import type { DType, KernelSource } from '@sparse-attention/core'
import { pageTableFunctions, pageTableUniforms } from '../shared/pages.js'
import { addressFields, uniformStruct } from '../shared/uniforms.js'
import { elementsPerUnit, indent, range, unitType, unpackUnit } from '../shared/wgsl.js'

export interface PageScoresOptions {
  readonly dtype: DType
  /** Multiple of 8, at most 256. */
  readonly headDim: number
  /** Query heads that share one read of the bounds: 1, 2, 4 or 8. */
  readonly rows: number
}

export const pageScoresUniforms = {
  ...pageTableUniforms,
  ...addressFields('q'),
  /** Query heads of a KV head, and of a row of scores. */
  group_size: 'u32',
  added: 'u32',
  /** Rows of scores of a sequence, and the length of one. */
  heads: 'u32',
  score_stride: 'u32',
} as const

const LANES = 128
/** Pages that a group of lanes takes one after another. */
const STEPS = 8

export function pageScoresTiling({ dtype, headDim }: Pick<PageScoresOptions, 'dtype' | 'headDim'>): {
  lanesPerPage: number
  unitsPerLane: number
  pagesPerWorkgroup: number
} {
  const units = headDim / elementsPerUnit(dtype)
  const lanesPerPage = Math.min(32, 2 ** Math.ceil(Math.log2(units)))
  return {
    lanesPerPage,
    unitsPerLane: Math.ceil(units / lanesPerPage),
    pagesPerWorkgroup: (LANES / lanesPerPage) * STEPS,
  }
}

/** Upper bounds of the scores of pages, from the bounds of their keys. */
export function emitPageScores(options: PageScoresOptions): KernelSource {
  const { dtype, headDim, rows } = options
  const { lanesPerPage, unitsPerLane, pagesPerWorkgroup } = pageScoresTiling(options)
  const groups = LANES / lanesPerPage
  const perUnit = elementsPerUnit(dtype)
  const vectors = perUnit / 4
  const each = (separator: string, line: (i: number) => string) => range(vectors).map(line).join(separator)
  const names = (name: string) => range(vectors).map((i) => `${name}${i}`)
  const code = `\
// scores[b, r, n] = Σ_h Σ_c max(q[h, c] · most[c], q[h, c] · least[c]) over the page's bounds, a bound of q · k for each of its keys
// (Quest, arXiv 2406.10774, §3.3, not scaled); summed over the query heads h of row r: a KV head's group, or one head.
//
// Axes: q [B, Hq, 1, D] ${dtype}, strided; bounds ${dtype} [Hkv, pages, 2, D], minima first; scores f32 [B, heads, score_stride].
//
// Workgroup (tile of ${pagesPerWorkgroup} pages, row, sequence): ${groups} groups of ${lanesPerPage} lanes, a page a group and step; a lane takes ${unitsPerLane} of
// the row's 16-byte units, for ${rows} query heads at a time.
${uniformStruct('Uniforms', pageScoresUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> table: array<u32>;
@group(0) @binding(2) var<storage, read> q: array<${unitType(dtype)}>;
@group(0) @binding(3) var<storage, read> bounds: array<${unitType(dtype)}>;
@group(0) @binding(4) var<storage, read_write> scores: array<f32>;

const LANES_PER_PAGE = ${lanesPerPage}u;
const GROUPS = ${groups}u;
const STEPS = ${STEPS}u;
const UNITS = ${headDim / perUnit}u; // 16-byte units of a row
const ROWS = ${rows}u;

var<workgroup> partial: array<f32, ${LANES * STEPS}>;

${pageTableFunctions}

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let sequence = workgroup.z;
  let pages = (key_count(sequence) + u.page_size - 1u) / u.page_size;
  let first = workgroup.x * ${pagesPerWorkgroup}u;
  if (first >= pages) { return; }
  let lane = local % LANES_PER_PAGE;
  let group = local / LANES_PER_PAGE;
  let first_head = workgroup.y * u.added;
  let kv_head = first_head / u.group_size;
  var sums: array<f32, STEPS>;
  for (var head = 0u; head < u.added; head += ROWS) {
    for (var n = 0u; n < ${unitsPerLane}u; n++) {
      let unit_of_row = lane + n * LANES_PER_PAGE;
      if (unit_of_row >= UNITS) { continue; }
      var query: array<vec4<f32>, ${rows * vectors}>;
      for (var r = 0u; r < ROWS; r++) {
        // Not left to the declaration: a driver was seen to keep what the round before had.
        ${range(vectors)
          .map((i) => `query[r * ${vectors}u + ${i}u] = vec4<f32>();`)
          .join(' ')}
        if (r >= u.added - head) { continue; }
        let unit = q[u.q_offset + sequence * u.q_batch_stride + (first_head + head + r) * u.q_head_stride + unit_of_row];
        ${indent(
          unpackUnit(
            dtype,
            'unit',
            range(vectors).map((i) => `query[r * ${vectors}u + ${i}u]`),
          ),
          8,
        )}
      }
      for (var step = 0u; step < STEPS; step++) {
        let page = first + step * GROUPS + group;
        if (page >= pages) { break; }
        let at = (kv_head * u.pool_pages + page_of(sequence, page)) * 2u * UNITS + unit_of_row;
        let least = bounds[at];
        let most = bounds[at + UNITS];
        ${each(' ', (i) => `var least${i}: vec4<f32>; var most${i}: vec4<f32>;`)}
        ${indent(unpackUnit(dtype, 'least', names('least')), 8)}
        ${indent(unpackUnit(dtype, 'most', names('most')), 8)}
        var sum = 0.0;
        for (var r = 0u; r < ROWS; r++) {
          ${each('\n          ', (i) => `sum += dot(max(query[r * ${vectors}u + ${i}u] * least${i}, query[r * ${vectors}u + ${i}u] * most${i}), vec4<f32>(1.0));`)}
        }
        sums[step] += sum;
      }
    }
  }
  for (var step = 0u; step < STEPS; step++) { partial[step * ${LANES}u + local] = sums[step]; }
  workgroupBarrier();
  if (local < STEPS * GROUPS && first + local < pages) {
    var sum = 0.0;
    for (var i = 0u; i < LANES_PER_PAGE; i++) { sum += partial[local * LANES_PER_PAGE + i]; }
    scores[(sequence * u.heads + workgroup.y) * u.score_stride + first + local] = sum;
  }
}
`
  return {
    label: 'page-scores',
    code,
    bindings: ['uniform', 'read', 'read', 'read', 'read_write'],
    workgroupSize: LANES,
    workgroupBytes: 4 * LANES * STEPS,
  }
}
