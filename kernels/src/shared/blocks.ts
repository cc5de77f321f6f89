/** WGSL: how many key blocks of query block `a` hold a pair that causality allows. Needs `u` with these fields. */
export const visibleBlocksFunction = (causal: boolean): string => `\
fn visible_blocks(a: u32) -> u32 {
  ${
    causal
      ? `let last_key = i32(min((a + 1u) * u.block_q, u.query_length)) - 1 + u.query_offset;
  return select(0u, min(u32(max(last_key, 0)) / u.block_k + 1u, u.key_blocks), last_key >= 0);`
      : 'return u.key_blocks;'
  }
}`

/** The fields that `visible_blocks` reads, and the plan's geometry. */
export const blockGridUniforms = {
  query_length: 'u32',
  query_offset: 'i32',
  block_q: 'u32',
  block_k: 'u32',
  query_blocks: 'u32',
  key_blocks: 'u32',
  words: 'u32',
} as const
