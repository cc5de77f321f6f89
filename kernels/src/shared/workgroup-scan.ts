/** Workgroup memory of `workgroup_scan`, in bytes. */
export const scanBytes = 2 * 256 * 4

/**
 * WGSL `workgroup_scan(local, value)`: the sum of the values of invocations up to and including `local`, of 256 in all. Sums of
 * u32 are exact; sums of f32 are added in one order, whatever the device. Call it in uniform control flow.
 */
export const workgroupScanFunction = (type: 'u32' | 'f32', name = 'workgroup_scan'): string => `\
var<workgroup> ${name}_sums: array<${type}, 512>;

// Each step adds what lies 1, 2, 4 … places before (Hillis and Steele), from one half of the memory to the other.
fn ${name}(local: u32, value: ${type}) -> ${type} {
  var sum = value;
  var half = 0u;
  workgroupBarrier();
  ${name}_sums[local] = sum;
  for (var step = 1u; step < 256u; step *= 2u) {
    workgroupBarrier();
    if (local >= step) { sum += ${name}_sums[half + local - step]; }
    half = 256u - half;
    ${name}_sums[half + local] = sum;
  }
  workgroupBarrier();
  return sum;
}

// The sum over all 256, after a call of ${name}.
fn ${name}_total() -> ${type} { return ${name}_sums[255]; }`
