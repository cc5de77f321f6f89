import type {
  AttentionFrame,
  Dispatch,
  KernelSource,
  Runtime,
  StripeList,
  StripePlanData,
} from '@sparse-attention/core'
import { stripeListUniforms, stripeListValues } from '../shared/stripe-lists.js'
import { packUniforms, uniformStruct } from '../shared/uniforms.js'

const singleKeysUniforms = { ...stripeListUniforms, list_rows: 'u32' } as const

const WORKGROUPS = 1024

/** WGSL that lists the keys of stripes one by one where a power of two is not their width. */
export function emitSingleKeys(): KernelSource {
  const code = `\
// The same plan with lists of single keys in place of those whose width is not a power of two; the others are copied.
//
// counts u32[lists, rows] of stripes; indices u32: for each list [rows, capacity], their first keys. A workgroup takes a row
// of a list at a time.
${uniformStruct('Uniforms', singleKeysUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> counts: array<u32>;
@group(0) @binding(2) var<storage, read> indices: array<u32>;
@group(0) @binding(3) var<storage, read_write> key_counts: array<u32>;
@group(0) @binding(4) var<storage, read_write> keys: array<u32>;

// Keys that one of the stripes becomes.
fn keys_of(width: u32) -> u32 {
  return select(width, 1u, countOneBits(width) == 1u);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  for (var at = workgroup.x; at < u.lists * u.list_rows; at += ${WORKGROUPS}u) {
    let second = at >= u.list_rows;
    let row = at % u.list_rows;
    let capacity = select(u.capacity_0, u.capacity_1, second);
    let each = keys_of(select(u.width_0, u.width_1, second));
    let read_at = select(0u, u.list_rows * u.capacity_0, second) + row * capacity;
    let write_at = select(0u, u.list_rows * u.capacity_0 * keys_of(u.width_0), second) + row * capacity * each;
    let count = min(counts[at], capacity) * each;
    for (var i = local; i < count; i += 64u) { keys[write_at + i] = indices[read_at + i / each] + i % each; }
    if (local == 0u) { key_counts[at] = count; }
  }
}
`
  return {
    label: 'single-keys',
    code,
    bindings: ['uniform', 'read', 'read', 'read_write', 'read_write'],
    workgroupSize: 64,
    workgroupBytes: 0,
  }
}

/** Undefined for a plan whose widths all are powers of two: it is walked as it is. */
export type SingleKeys = (
  frame: AttentionFrame,
  plan: StripePlanData,
) => { readonly plan: StripePlanData; readonly dispatch: Dispatch } | undefined

/**
 * Compiles the kernel that makes lists of single keys, for walks that divide by the width of stripes with a shift.
 *
 * Cost: the lists, read and written: 4 bytes for each key of a stripe.
 */
export async function singleKeys(runtime: Runtime): Promise<SingleKeys> {
  const kernel = await runtime.kernel(emitSingleKeys())
  return (frame, plan) => {
    const lists = plan.lists.map(oneByOne)
    if (lists.every(({ width }, i) => width === plan.lists[i]!.width)) return undefined
    const rows = frame.batch * plan.heads * Math.ceil(frame.queryLength / plan.blockQ)
    const entries = rows * lists.reduce((sum, { capacity }) => sum + capacity, 0)
    const counts = frame.scratch(4 * rows * lists.length)
    const indices = frame.scratch(4 * entries)
    const uniforms = packUniforms(singleKeysUniforms, { ...stripeListValues(plan.lists), list_rows: rows })
    return {
      plan: { ...plan, lists, counts, indices },
      dispatch: {
        kernel,
        bindings: [runtime.uniforms.get(uniforms), plan.counts, plan.indices, counts, indices],
        workgroups: [Math.min(WORKGROUPS, rows * lists.length), 1, 1],
        cost: { operations: 4 * entries, bytes: 8 * entries },
      },
    }
  }
}

function oneByOne({ width, capacity }: StripeList): StripeList {
  const isPowerOfTwo = (width & (width - 1)) === 0
  return isPowerOfTwo ? { width, capacity } : { width: 1, capacity: capacity * width }
}
