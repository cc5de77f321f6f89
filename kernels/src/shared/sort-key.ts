/**
 * WGSL `sort_key(bits)`: a u32 that orders as the f32 of these bits does. The bits of negative numbers fall as the numbers
 * rise, so they are inverted. −0 is 0, and NaN counts as −∞.
 */
export const sortKeyFunction: string = `\
// Orders as the numbers do: the bits of negative ones fall as they rise, so they are inverted. −0 is 0, NaN counts as −∞.
fn sort_key(bits: u32) -> u32 {
  let magnitude = bits & 0x7fffffffu;
  if (magnitude == 0u) { return 0x80000000u; }
  if (magnitude > 0x7f800000u) { return ~0xff800000u; }
  return select(bits | 0x80000000u, ~bits, bits > 0x80000000u);
}`
