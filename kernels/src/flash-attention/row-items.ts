import type {
  AttentionFrame,
  BufferSlice,
  Dispatch,
  KernelSource,
  Runtime,
  VariableBlockPlanData,
} from '@sparse-attention/core'
import { packUniforms, uniformStruct } from '../shared/uniforms.js'
import { ROWS } from './options.js'

const rowItemsUniforms = { query_length: 'u32', query_blocks: 'u32', items: 'u32', dense: 'u32' } as const

/** Row blocks of a head that are enough for any sizes of its query blocks: the last one of each may be short. */
export function rowItemCount({ queryLength }: AttentionFrame, queryBlocks: number): number {
  return Math.ceil(queryLength / ROWS) + queryBlocks
}

/** WGSL that cuts query blocks of any size into runs of at most ROWS rows. */
export function emitRowItems(): KernelSource {
  const code = `\
// items[h, i] = (first row, end row, query block, 0): the rows of query blocks in runs of at most ROWS, block after block;
// behind the last run first and end row are 0.
//
// starts u32[B·Hq, blocks + 1]: first row of each block. One workgroup a head: counts of runs, 64 blocks at a time, and the
// sum of those before.
${uniformStruct('Uniforms', rowItemsUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> starts: array<u32>;
@group(0) @binding(2) var<storage, read_write> items: array<vec4<u32>>;

const ROWS = ${ROWS}u;

var<workgroup> counts: array<u32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let head = workgroup.x;
  var before = 0u;
  for (var first = 0u; first < u.query_blocks; first += 64u) {
    let block = first + local;
    var start = 0u;
    var end = 0u;
    if (block < u.query_blocks) {
      start = 0u;
      end = u.query_length;
      if (u.dense == 0u) {
        start = starts[head * (u.query_blocks + 1u) + block];
        end = min(starts[head * (u.query_blocks + 1u) + block + 1u], u.query_length);
      }
    }
    let count = (max(end, start) - start + ROWS - 1u) / ROWS;
    workgroupBarrier();
    counts[local] = count;
    workgroupBarrier();
    var item = before;
    for (var i = 0u; i < 64u; i++) {
      if (i < local) { item += counts[i]; }
      before += counts[i];
    }
    for (var run = 0u; run < count; run++) {
      if (item + run < u.items) {
        items[head * u.items + item + run] = vec4<u32>(start + run * ROWS, min(start + (run + 1u) * ROWS, end), block, 0u);
      }
    }
  }
  for (var item = before + local; item < u.items; item += 64u) { items[head * u.items + item] = vec4<u32>(); }
}
`
  return {
    label: 'row-items',
    code,
    bindings: ['uniform', 'read', 'read_write'],
    workgroupSize: 64,
    workgroupBytes: 256,
  }
}

export type RowItems = (
  frame: AttentionFrame,
  plan: VariableBlockPlanData | undefined,
) => { readonly items: BufferSlice; readonly dispatch: Dispatch }

/** Compiles the kernel that finds the rows of each workgroup for a plan of variable blocks; without a plan, of one block. */
export async function rowItems(runtime: Runtime): Promise<RowItems> {
  const kernel = await runtime.kernel(emitRowItems())
  return (frame, plan) => {
    const heads = frame.batch * frame.queryHeads
    const queryBlocks = plan?.queryBlocks ?? 1
    const count = rowItemCount(frame, queryBlocks)
    const items = frame.scratch(heads * count * 16)
    const uniforms = packUniforms(rowItemsUniforms, {
      query_length: frame.queryLength,
      query_blocks: queryBlocks,
      items: count,
      dense: plan ? 0 : 1,
    })
    const dispatch: Dispatch = {
      kernel,
      bindings: [runtime.uniforms.get(uniforms), plan?.queryStarts ?? frame.scratch(16), items],
      workgroups: [heads, 1, 1],
      cost: { operations: heads * (queryBlocks + count), bytes: heads * (4 * (queryBlocks + 1) + 16 * count) },
    }
    return { items, dispatch }
  }
}
