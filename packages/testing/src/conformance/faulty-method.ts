import {
  type AttentionFrame,
  blockGrid,
  type Dispatch,
  defineMethod,
  type MethodFactory,
  type PlanData,
  type Tensor,
} from '@sparse-attention/core'
import type { Reference } from '../reference.js'

/*
 * For the tests of this package: a small sparse method, an invocation for each row, and the mistakes that the suite is
 * there to find.
 */

/** A mistake of the method: each is one that somebody has made. */
export type Fault =
  | 'none'
  | 'keeps another block'
  | 'forgets the forced block'
  | 'takes heads modulo KV heads'
  | 'causal from the upper left'
  | 'sees one key too many'
  | 'ignores the scale'
  | 'LSE in base 2'
  | 'empty rows are NaN'
  | 'leaves a key out'
  | 'sums in half precision'
  | 'does not take off the maximum'
  | 'multiplies masked keys by zero'
  | 'writes behind the last row'
  | 'ignores strides of the output'
  | 'ignores the given plan'
  | 'reads back'
  | 'leaks a buffer with each call'
  | 'leaks a buffer when disposed'
  | 'keeps state between calls'
  | 'density rises with the threshold'
  | 'neutral options drop a block'

const block = 64

const addresses = (names: readonly string[]) =>
  names.map((name) => `  ${name}: vec4u, // offset, strides of batch, head, row`)

const header = `
struct Uniforms {
${addresses(['q', 'k', 'v', 'out']).join('\n')}
  heads: vec4u, // batch, query heads, KV heads, head_dim
  lengths: vec4u, // query length, key length, causal, words of a plan's row
  numbers: vec4f, // scale, threshold
}
@group(0) @binding(0) var<uniform> u: Uniforms;
fn last_visible(row: u32) -> i32 {
  let last = i32(u.lengths.y) - 1;
  return select(last, min(last, i32(row) + VISIBLE_OFFSET), u.lengths.z == 1u);
}
fn kv_head(head: u32) -> u32 { return KV_HEAD; }
`

/** A block is kept if the first element of its first key is at least the threshold; the first block always. */
const planCode = `
@group(0) @binding(1) var<storage, read> k: array<f32>;
@group(0) @binding(2) var<storage, read_write> bitmap: array<u32>;
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
  let query_blocks = (u.lengths.x + ${block - 1}u) / ${block}u;
  if (id.x >= u.heads.x * u.heads.y * query_blocks) { return; }
  let head = id.x / query_blocks % u.heads.y;
  let at = u.k.x + (id.x / query_blocks / u.heads.y) * u.k.y + kv_head(head) * u.k.z;
  let last = last_visible(min((id.x % query_blocks + 1u) * ${block}u, u.lengths.x) - 1u);
  for (var word = 0u; word < u.lengths.w; word++) {
    var bits = 0u;
    for (var bit = 0u; bit < 32u; bit++) {
      let key = (word * 32u + bit) * ${block}u;
      if (i32(key) > last) { break; }
      if (SELECTED) { bits |= 1u << bit; }
    }
    bitmap[id.x * u.lengths.w + word] = bits;
  }
}`

const attendCode = `
@group(0) @binding(1) var<storage, read> q: array<f32>;
@group(0) @binding(2) var<storage, read> k: array<f32>;
@group(0) @binding(3) var<storage, read> v: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;
@group(0) @binding(5) var<storage, read_write> lse: array<u32>;
@group(0) @binding(6) var<storage, read> bitmap: array<u32>;
var<private> acc: array<f32, 64>;
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= u.heads.x * u.heads.y * u.lengths.x) { return; }
  let row = id.x % u.lengths.x;
  let head = id.x / u.lengths.x % u.heads.y;
  let batch = id.x / u.lengths.x / u.heads.y;
  let query_blocks = (u.lengths.x + ${block - 1}u) / ${block}u;
  let plan = ((batch * u.heads.y + head) * query_blocks + row / ${block}u) * u.lengths.w;
  let q_at = u.q.x + batch * u.q.y + head * u.q.z + row * u.q.w;
  let k_at = u.k.x + batch * u.k.y + kv_head(head) * u.k.z;
  let v_at = u.v.x + batch * u.v.y + kv_head(head) * u.v.z;
  let out_at = OUT_AT;
  let last = last_visible(row);
  var top = -3.4e38;
  var sum = 0.0;
  for (var j = 0u; j < u.lengths.y; j++) {
    let kept = i32(j) <= last && ((bitmap[plan + j / ${block * 32}u] >> (j / ${block}u % 32u)) & 1u) == 1u && LEFT_IN;
    if (!kept && !READ_ALL) { continue; }
    var z = 0.0;
    for (var d = 0u; d < u.heads.w; d++) { z = ROUND(z + SCALE * q[q_at + d] * k[k_at + j * u.k.w + d]); }
    let new_top = TOP;
    let rescale = exp(max(top - new_top, -200.0));
    let p = select(0.0, exp(z - new_top), kept);
    sum = sum * rescale + p;
    for (var d = 0u; d < u.heads.w; d++) { acc[d] = acc[d] * rescale + p * v[v_at + j * u.v.w + d]; }
    top = new_top;
  }
  let empty = EMPTY;
  for (var d = 0u; d < u.heads.w; d++) { out[out_at + d] = select(acc[d] / sum, 0.0, empty); }
  TAIL
  lse[id.x] = select(bitcast<u32>(LSE), 0xff800000u, empty);
}`

/** WGSL with the names in capitals replaced: by what is right, except for the fault. */
function emit(code: string, fault: Fault): string {
  const when = (name: Fault, wrong: string, right: string) => (fault === name ? wrong : right)
  const first = 'k[at + key * u.k.w]'
  const selected = when(
    'keeps another block',
    `key == 0u || ${first} < u.numbers.y`,
    when(
      'forgets the forced block',
      `${first} >= u.numbers.y`,
      when(
        'density rises with the threshold',
        `key == 0u || abs(${first}) < abs(u.numbers.y)`,
        when(
          'neutral options drop a block',
          `key == 0u || (key != 64u && ${first} >= u.numbers.y)`,
          `key == 0u || ${first} >= u.numbers.y`,
        ),
      ),
    ),
  )
  const offset = when('causal from the upper left', '0', 'i32(u.lengths.y) - i32(u.lengths.x)')
  const words: Record<string, string> = {
    SELECTED: selected,
    VISIBLE_OFFSET: when('sees one key too many', `${offset} + 1`, offset),
    KV_HEAD: when('takes heads modulo KV heads', 'head % u.heads.z', 'head * u.heads.z / u.heads.y'),
    OUT_AT: when(
      'ignores strides of the output',
      'id.x * u.heads.w',
      'u.out.x + batch * u.out.y + head * u.out.z + row * u.out.w',
    ),
    LEFT_IN: when('leaves a key out', 'j != 3u', 'true'),
    READ_ALL: when('multiplies masked keys by zero', 'true', 'false'),
    SCALE: when('ignores the scale', 'inverseSqrt(f32(u.heads.w))', 'u.numbers.x'),
    ROUND: when('sums in half precision', 'quantizeToF16', ''),
    TOP: when('does not take off the maximum', '0.0', 'select(top, max(top, z), kept)'),
    EMPTY: when('empty rows are NaN', 'false', 'sum == 0.0'),
    TAIL: when('writes behind the last row', 'if (row == u.lengths.x - 1u) { out[out_at + u.heads.w] = 7.0; }', ''),
    LSE: when('LSE in base 2', '(top + log(sum)) * 1.4426950408889634', 'top + log(sum)'),
  }
  return `${header}${code}`.replace(/\b[A-Z_]{3,}\b/g, (word) => words[word] ?? word)
}

type Options = { readonly threshold: number }

/** The method, with one mistake or none. */
export function faultyMethod(fault: Fault): MethodFactory<Options> {
  return defineMethod<Options>({
    id: 'first-element',
    title: 'First element',
    phase: 'any',
    summary: 'Keeps the blocks whose first key starts with a large number.',
    citation: { title: 'None', authors: 'Nobody', year: 2026, url: 'https://example.org' },
    options: { threshold: { type: 'number', default: 0, min: -1e6, max: 1e6, description: 'Least first element' } },
    capabilities: { causal: [true, false], queryLength: 'any', dtypes: ['f32'], headDim: { multipleOf: 32, max: 64 } },
    neutral: { threshold: -1e6 },
    scaled: () => ({ threshold: 0.5 }),
    async create(runtime, _config, { threshold }) {
      const [planKernel, attendKernel] = await Promise.all([
        runtime.kernel({
          label: 'plan',
          code: emit(planCode, fault),
          bindings: ['uniform', 'read', 'read_write'],
          workgroupSize: 64,
          workgroupBytes: 0,
        }),
        runtime.kernel({
          label: 'attend',
          code: emit(attendCode, fault),
          bindings: ['uniform', 'read', 'read', 'read', 'read_write', 'read_write', 'read'],
          workgroupSize: 64,
          workgroupBytes: 0,
        }),
      ])
      const leak = () => runtime.device.createBuffer({ size: 64, usage: GPUBufferUsage.STORAGE })
      if (fault === 'leaks a buffer when disposed') leak()
      let calls = 0
      let latest: PlanData | undefined

      const uniforms = (frame: AttentionFrame) => {
        const words = new Uint32Array(28)
        const tensors = [frame.q, frame.k, frame.v, frame.out]
        for (const [n, { offset, strides }] of tensors.entries()) words.set([offset, ...strides.slice(0, 3)], 4 * n)
        words.set([frame.batch, frame.queryHeads, frame.kvHeads, frame.headDim], 16)
        const { wordsPerRow } = blockGrid({ ...frame, blockQ: block, blockK: block })
        words.set([frame.queryLength, frame.keyLength, Number(frame.causal), wordsPerRow], 20)
        new Float32Array(words.buffer).set([frame.scale, threshold], 24)
        if (fault === 'keeps state between calls') new Float32Array(words.buffer)[24]! *= 1 + calls++ * 1e-6
        return runtime.uniforms.get(words)
      }
      const whole = ({ buffer }: Tensor) => ({ buffer, offsetBytes: 0, sizeBytes: buffer.size })
      const lseSlice = ({ buffer, offset, shape }: Tensor) => {
        return { buffer, offsetBytes: offset * 4, sizeBytes: shape.reduce((count, size) => count * size, 4) }
      }
      const dispatch = (
        kernel: Dispatch['kernel'],
        bindings: Dispatch['bindings'],
        count: number,
        operations: number,
      ): Dispatch => ({
        kernel,
        bindings,
        workgroups: [Math.ceil(count / 64), 1, 1],
        cost: { operations, bytes: operations },
      })
      return {
        plan(frame) {
          const { batch, queryHeads, queryLength, keyLength, causal } = frame
          const geometry = { batch, queryHeads, queryLength, keyLength, causal, blockQ: block, blockK: block }
          const { queryBlocks, wordsPerRow } = blockGrid(geometry)
          const rows = batch * queryHeads * queryBlocks
          const bitmap = frame.planBuffer(rows * wordsPerRow * 4)
          if (fault === 'leaks a buffer with each call') leak()
          if (fault === 'reads back') {
            const staging = runtime.device.createBuffer({
              size: 16,
              usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
            })
            void staging.mapAsync(GPUMapMode.READ).then(() => staging.destroy())
          }
          latest = { kind: 'block', ...geometry, bitmap }
          return {
            plan: latest,
            dispatches: [dispatch(planKernel, [uniforms(frame), whole(frame.k), bitmap], rows, rows)],
          }
        },
        attend(frame, given) {
          const plan = fault === 'ignores the given plan' && latest ? latest : given
          const { q, k, v, out, lse } = frame
          const rows = frame.batch * frame.queryHeads * frame.queryLength
          const bitmap = plan.kind === 'block' ? plan.bitmap : frame.scratch(16)
          const bindings = [uniforms(frame), ...[q, k, v, out].map(whole), lseSlice(lse), bitmap]
          return [dispatch(attendKernel, bindings, rows, 4 * rows * frame.keyLength * frame.headDim)]
        },
        dispose() {},
      }
    },
  })
}

/** The rule of the method without a mistake. */
export const firstElementReference: Reference<Options> = (
  { k, batch, queryHeads, kvHeads, queryLength, keyLength, headDim, causal },
  { threshold },
) => {
  const [queryBlocks, keyBlocks] = [Math.ceil(queryLength / block), Math.ceil(keyLength / block)]
  const rows = batch * queryHeads * queryBlocks
  const scores = new Float64Array(rows * keyBlocks).fill(Number.NaN)
  const [kept, forced] = [new Uint8Array(rows * keyBlocks), new Uint8Array(rows * keyBlocks)]
  const gap = new Float64Array(rows).fill(Number.POSITIVE_INFINITY)
  for (let row = 0; row < rows; row++) {
    const head = Math.floor(row / queryBlocks)
    const kvHead = Math.floor(head / queryHeads) * kvHeads + Math.floor(((head % queryHeads) * kvHeads) / queryHeads)
    const lastRow = Math.min(((row % queryBlocks) + 1) * block, queryLength) - 1
    for (let c = 0; c < keyBlocks; c++) {
      if (causal && c * block > lastRow + keyLength - queryLength) break
      const score = k[(kvHead * keyLength + c * block) * headDim]!
      scores[row * keyBlocks + c] = score
      forced[row * keyBlocks + c] = Number(c === 0)
      kept[row * keyBlocks + c] = Number(c === 0 || score >= threshold)
      if (c > 0) gap[row] = Math.min(gap[row]!, Math.abs(score - threshold))
    }
  }
  return { blockQ: block, blockK: block, kept, forced, scores, gap, mass: new Float64Array(rows * keyBlocks).fill(1) }
}
