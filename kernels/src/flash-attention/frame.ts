import type { BindingKind } from '@sparse-attention/core'
import { uniformStruct } from '../shared/uniforms.js'
import { elementsPerUnit, indent, range, unitType, unpackUnit } from '../shared/wgsl.js'
import { type FlashAttentionOptions, ROWS } from './options.js'
import { flashAttentionUniforms, skipUniforms, voteUniforms } from './uniforms.js'
import { walks } from './walk.js'

/** Keys per online-softmax step: independent dot products hide latency, few enough to stay in registers. */
export const STEP = 4

/** Keys of a tile in f32, of so many elements each: 4 KiB each of K and V, as 16 KiB of workgroup memory must be enough. */
export function keysOfTile(elements: number): number {
  return Math.max(STEP, Math.min(16, 2 ** Math.floor(Math.log2(1024 / elements))))
}

/** Bindings after the uniforms, in order. */
export function storageBindings({ dtype, plan, skip = false, votes, pieces = false }: FlashAttentionOptions): {
  kind: BindingKind
  name: string
  type: string
}[] {
  const tensor = (name: string, kind: BindingKind) => ({ kind, name, type: `array<${unitType(dtype)}>` })
  return [
    ...['q', 'k', 'v'].map((name) => tensor(name, 'read')),
    tensor('out', 'read_write'),
    { kind: 'read_write', name: 'lse', type: 'array<u32>' },
    ...walks[plan].bindings,
    ...(skip ? [{ kind: 'read_write', name: 'kept', type: 'array<u32>' } as const] : []),
    ...(votes ? [{ kind: 'read_write', name: 'needed', type: 'array<atomic<u32>>' } as const] : []),
    ...(pieces
      ? ([
          { kind: 'read', name: 'pieces', type: 'array<vec4<u32>>' },
          { kind: 'read_write', name: 'parts', type: 'array<vec4<u32>>' },
        ] as const)
      : []),
  ]
}

/** What every form of the kernel starts with: what it computes, its uniforms and its bindings. */
export function moduleHeader(options: FlashAttentionOptions, how: string): string {
  const { dtype, headDim, causal, plan, skip = false, votes } = options
  return `\
// Flash attention forward over a ${plan} plan or none, ${causal ? 'causal (bottom-right)' : 'not causal'}:
// out = softmax(scale · q kᵀ) v, and the LSE of each row. FlashAttention-2 (arXiv 2307.08691), Algorithm 1:
// f32 math, ${dtype} storage, head_dim ${headDim}.
//
// Axes: B batch, Hq and Hkv query and KV heads, Lq and Lk query and key length, D head_dim.
// q, out [B, Hq, Lq, D] and k, v [B, Hkv, Lk, D] ${dtype}, strided, read and written 16 bytes at a time.
// lse [B, Hq, Lq] f32 bits, natural log, −∞ (0xff800000) for rows that see no key.
// The plan's arrays are those of core's plan.ts.
//${votes ? ` needed, as the plan's bitmap, gets the bits of blocks that some row of theirs needs: LiteAttention (arXiv 2511.11062).\n//` : ''}
${how
  .split('\n')
  .map((line) => `// ${line}`)
  .join('\n')}
${uniformStruct('Uniforms', { ...flashAttentionUniforms, ...walks[plan].uniforms, ...(skip ? skipUniforms : {}), ...(votes ? voteUniforms : {}) })}

@group(0) @binding(0) var<uniform> u: Uniforms;
${storageBindings(options)
  .map(({ kind, name, type }, i) => `@group(0) @binding(${i + 1}) var<storage, ${kind}> ${name}: ${type};`)
  .join('\n')}`
}

/** Statements that find the workgroup's rows and the ends of what they see; `row` is declared between the two parts. */
export const workgroupRows = ({ plan }: FlashAttentionOptions): string => `\
let head = workgroup.y;
let batch = workgroup.z;
let kv_head = head / u.group_size;
// Late rows see the most keys under causality: they start first, so that no long row is left at the end.
let row_block = u.first_row_block + u.row_blocks - 1u - workgroup.x;
${walks[plan].rows(ROWS)}
let k_head = u.k_offset + batch * u.k_batch_stride + kv_head * u.k_head_stride;
let v_head = u.v_offset + batch * u.v_batch_stride + kv_head * u.v_head_stride;`

/** An expression: keys before it are visible to a row. */
export const rowEnd = ({ causal }: FlashAttentionOptions, row: string): string =>
  causal ? `u32(clamp(i32(${row}) + u.query_offset + 1, 0, i32(u.key_length)))` : 'u.key_length'

/** WGSL targets of the vec4s that one 16-byte unit unpacks into. */
export const unitTargets = (options: FlashAttentionOptions, array: string, at: string): string[] =>
  range(elementsPerUnit(options.dtype) / 4).map((i) => `${array}[${at} + ${i}u]`)

/** Statements, by every invocation, that fill `k_tile` and `v_tile` with the tile's keys and zeros elsewhere. */
export function stageTiles(options: FlashAttentionOptions, workgroupSize: number): string {
  const { dtype, plan } = options
  const walk = walks[plan]
  const stage = (name: 'k' | 'v') => {
    const targets = unitTargets(options, `${name}_tile`, 'at')
    return `\
${targets.map((target) => `${target} = vec4<f32>();`).join(' ')}
if (inside) {
  let unit = ${name}[${name}_head + key * u.${name}_row_stride + unit_in_row];
  ${indent(unpackUnit(dtype, 'unit', targets), 2)}
}`
  }
  return `\
${walk.beforeTile === '' ? '' : `${walk.beforeTile}\n`}workgroupBarrier();
for (var index = local; index < TILE_KEYS * TILE_UNITS; index += ${workgroupSize}u) {
  let key = ${walk.key('index / TILE_UNITS')};
  let unit_in_row = index % TILE_UNITS;
  let at = index * ${elementsPerUnit(dtype) / 4}u;
  let inside = key < u.key_length && unit_in_row < UNITS;
  ${indent(stage('k'), 2)}
  ${indent(stage('v'), 2)}
}
workgroupBarrier();`
}
