import type { KernelSource } from '@sparse-attention/core'
import { gridUniforms, workgroupNumberFunction } from '../shared/grid.js'
import { uniformStruct } from '../shared/uniforms.js'

const INVOCATIONS = 256
const PER_INVOCATION = 8

/** Elements that a workgroup scans at once. */
export const SCAN_BLOCK: number = INVOCATIONS * PER_INVOCATION

export const exclusiveScanUniforms = {
  ...gridUniforms,
  length: 'u32',
} as const

/** Sums of blocks: the first of the three dispatches. */
export function emitScanReduce(): KernelSource {
  const code = `\
// sums[n] = the sum of block n of data, ${SCAN_BLOCK} elements, modulo 2^32.
//
// data u32 [length]; sums u32 [ceil(length / ${SCAN_BLOCK})]. One workgroup of ${INVOCATIONS} a block.
${uniformStruct('Uniforms', exclusiveScanUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> data: array<u32>;
@group(0) @binding(2) var<storage, read_write> sums: array<u32>;

var<workgroup> partial: array<u32, ${INVOCATIONS}>;

${workgroupNumberFunction}

@compute @workgroup_size(${INVOCATIONS})
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let block = workgroup_number(workgroup);
  if (block >= u.end_workgroup) { return; }
  let end = min((block + 1u) * ${SCAN_BLOCK}u, u.length);
  var sum = 0u;
  for (var i = block * ${SCAN_BLOCK}u + local; i < end; i += ${INVOCATIONS}u) { sum += data[i]; }
  partial[local] = sum;
  for (var step = ${INVOCATIONS / 2}u; step > 0u; step /= 2u) {
    workgroupBarrier();
    if (local < step) { partial[local] += partial[local + step]; }
  }
  if (local == 0u) { sums[block] = partial[0]; }
}
`
  return {
    label: 'exclusive-scan-reduce',
    code,
    bindings: ['uniform', 'read', 'read_write'],
    workgroupSize: INVOCATIONS,
    workgroupBytes: INVOCATIONS * 4,
  }
}

/**
 * The scan itself, in place. With `offsets`, one workgroup a block that starts at its own offset: the third dispatch.
 * Without, one workgroup walks over everything: the second, over the blocks' sums, or the only one.
 */
export function emitScanBlocks({ offsets }: { readonly offsets: boolean }): KernelSource {
  const code = `\
// data[i] becomes the sum of data[j] over j < i, modulo 2^32.${
    offsets ? ` offsets[n] is that sum at the start of block n, ${SCAN_BLOCK} elements.` : ''
  }
//
// data u32 [length]${offsets ? `; offsets u32 [ceil(length / ${SCAN_BLOCK})]` : ''}.
//
// ${offsets ? `One workgroup of ${INVOCATIONS} a block` : `One workgroup of ${INVOCATIONS} for all blocks, one after the other`}: each invocation sums ${PER_INVOCATION} neighbours, the sums are
// scanned by doubling, and the neighbours are walked over again.
${uniformStruct('Uniforms', exclusiveScanUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read_write> data: array<u32>;
${offsets ? '@group(0) @binding(2) var<storage, read> offsets: array<u32>;\n' : ''}
var<workgroup> partial: array<u32, ${INVOCATIONS}>;

${offsets ? `${workgroupNumberFunction}\n\n` : ''}\
// Scans one block in place, starting at \`carry\`; returns the sum of everything before the next one.
fn scan_block(block: u32, local: u32, carry: u32) -> u32 {
  let first = block * ${SCAN_BLOCK}u + local * ${PER_INVOCATION}u;
  let end = min(first + ${PER_INVOCATION}u, u.length);
  var sum = 0u;
  for (var i = first; i < end; i++) { sum += data[i]; }
  partial[local] = sum;
  for (var step = 1u; step < ${INVOCATIONS}u; step *= 2u) {
    workgroupBarrier();
    var earlier = 0u;
    if (local >= step) { earlier = partial[local - step]; }
    workgroupBarrier();
    partial[local] += earlier;
  }
  workgroupBarrier();
  var before = carry + partial[local] - sum;
  let after = carry + partial[${INVOCATIONS - 1}];
  for (var i = first; i < end; i++) {
    let value = data[i];
    data[i] = before;
    before += value;
  }
  return after;
}

@compute @workgroup_size(${INVOCATIONS})
fn main(${offsets ? '@builtin(workgroup_id) workgroup: vec3<u32>, ' : ''}@builtin(local_invocation_index) local: u32) {
${
  offsets
    ? `\
  let block = workgroup_number(workgroup);
  if (block >= u.end_workgroup) { return; }
  _ = scan_block(block, local, offsets[block]);`
    : `\
  var carry = 0u;
  for (var block = 0u; block * ${SCAN_BLOCK}u < u.length; block++) {
    carry = scan_block(block, local, carry);
    workgroupBarrier(); // the next block writes what this one still reads
  }`
}
}
`
  return {
    label: offsets ? 'exclusive-scan-blocks' : 'exclusive-scan-serial',
    code,
    bindings: offsets ? ['uniform', 'read_write', 'read'] : ['uniform', 'read_write'],
    workgroupSize: INVOCATIONS,
    workgroupBytes: INVOCATIONS * 4,
  }
}
