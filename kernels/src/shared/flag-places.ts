/** Workgroup memory of `flag_place`, in bytes. */
export const flagPlacesBytes = 8 * 4

/**
 * WGSL `flag_place(local, flag)`: how many invocations before this one, of 256, have their flag set; and after a call
 * `flag_total()`: how many have. Call both in uniform control flow. Exact, in any order of execution.
 */
export const flagPlacesFunction: string = `\
var<workgroup> flags: array<atomic<u32>, 8>;

fn flag_place(local: u32, flag: bool) -> u32 {
  workgroupBarrier();
  if (local < 8u) { atomicStore(&flags[local], 0u); }
  workgroupBarrier();
  if (flag) { atomicOr(&flags[local / 32u], 1u << (local & 31u)); }
  workgroupBarrier();
  var place = countOneBits(atomicLoad(&flags[local / 32u]) & ((1u << (local & 31u)) - 1u));
  for (var i = 0u; i < local / 32u; i++) { place += countOneBits(atomicLoad(&flags[i])); }
  return place;
}

fn flag_total() -> u32 {
  var total = 0u;
  for (var i = 0u; i < 8u; i++) { total += countOneBits(atomicLoad(&flags[i])); }
  return total;
}`
