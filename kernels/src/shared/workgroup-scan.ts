import type { Runtime } from '@sparse-attention/core'

/** Invocations of a workgroup that takes a whole row: as many as WebGPU promises, or as large GPUs have. */
export type RowInvocations = 256 | 1024

/** A row is one workgroup's, so its time falls with the invocations; software adapters have no use for them. */
export function rowInvocations({ device, software }: Runtime): RowInvocations {
  const { maxComputeInvocationsPerWorkgroup, maxComputeWorkgroupSizeX, maxComputeWorkgroupStorageSize } = device.limits
  const large = Math.min(maxComputeInvocationsPerWorkgroup, maxComputeWorkgroupSizeX) >= 1024
  return large && maxComputeWorkgroupStorageSize >= 32768 && !software ? 1024 : 256
}

/** Workgroup memory of `workgroup_scan`, in bytes. */
export const scanBytes: number = scanBytesOf(256)

export function scanBytesOf(invocations: RowInvocations): number {
  return 2 * invocations * 4
}

/**
 * WGSL `workgroup_scan(local, value)`: the sum of the values of invocations up to and including `local`, of all of them. Sums of
 * u32 are exact; sums of f32 are added in one order, whatever the device. Call it in uniform control flow.
 */
export const workgroupScanFunction = (
  type: 'u32' | 'f32',
  name = 'workgroup_scan',
  invocations: RowInvocations = 256,
): string => `\
var<workgroup> ${name}_sums: array<${type}, ${2 * invocations}>;

// Each step adds what lies 1, 2, 4 … places before (Hillis and Steele), from one half of the memory to the other.
fn ${name}(local: u32, value: ${type}) -> ${type} {
  var sum = value;
  var half = 0u;
  workgroupBarrier();
  ${name}_sums[local] = sum;
  for (var step = 1u; step < ${invocations}u; step *= 2u) {
    workgroupBarrier();
    if (local >= step) { sum += ${name}_sums[half + local - step]; }
    half = ${invocations}u - half;
    ${name}_sums[half + local] = sum;
  }
  workgroupBarrier();
  return sum;
}

// The sum over all, after a call of ${name}: an even number of steps ends where it began.
fn ${name}_total() -> ${type} { return ${name}_sums[${invocations - 1}]; }`
