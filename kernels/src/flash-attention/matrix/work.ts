/** How a workgroup finds its rows, and where their results go, as WGSL. */
export interface Work {
  /** Statements that declare `batch`, `head` and `row_block`; they may return. Uniform over the workgroup. */
  readonly find: string
  /** An expression: keys before it are this workgroup's, given those before which its last row sees. */
  readonly end: (visible: string) => string
  /** Statements that declare what the next two need, from `row`. */
  readonly outputRow: string
  /** A statement that stores 16 bytes of the output's row. */
  readonly storeUnit: (unit: string, value: string) => string
  /** A statement that stores `lse_bits`. */
  readonly storeLse: string
}

const OUTPUT_ROW = 'u.out_offset + batch * u.out_batch_stride + head * u.out_head_stride + row * u.out_row_stride'
const STORE_LSE = 'lse[(batch * u.query_heads + head) * u.query_length + row] = lse_bits;'

const rows: Omit<Work, 'find'> = {
  end: (visible) => visible,
  outputRow: `let out_row = ${OUTPUT_ROW};`,
  storeUnit: (unit, value) => `out[out_row + ${unit}] = ${value};`,
  storeLse: STORE_LSE,
}

/** Head after head. */
export const rowsOfHeads: Work = {
  ...rows,
  find: `\
let head = workgroup.y;
let batch = workgroup.z;
let row_block = u.first_row_block + u.row_blocks - 1u - workgroup.x;`,
}

/** For causal attention. */
export const lateRowsFirst: Work = {
  ...rows,
  find: `\
// Late rows see the most keys: those of all heads start first, so that no long row is left at the end.
let index = workgroup.y * workgroups.x + workgroup.x;
let head = index % workgroups.y;
let batch = workgroup.z;
let row_block = u.first_row_block + u.row_blocks - 1u - index / workgroups.y;`,
}

/** A piece of a plan's row of blocks, and a place of its own for the output if the row was cut. */
export const pieceWork: Work = {
  find: `\
let piece = pieces[u.first_row_block + workgroup.x]; // row of blocks, first block, end block, slot
if (piece.x == 0xffffffffu) { return; }
let row_block = piece.x % u.row_blocks;
let head = piece.x / u.row_blocks % u.query_heads;
let batch = piece.x / u.row_blocks / u.query_heads;`,
  end: (visible) => `min(${visible}, piece.z * u.plan_block_k)`,
  outputRow: `\
let whole = piece.w == 0u;
let out_row = ${OUTPUT_ROW};
let part_row = ((piece.w - 1u) * ROWS + row - first_row) * (UNITS + 1u);`,
  storeUnit: (unit, value) =>
    `if (whole) { out[out_row + ${unit}] = ${value}; } else { parts[part_row + ${unit}] = ${value}; }`,
  storeLse: `\
if (whole) { ${STORE_LSE} } else { parts[part_row + UNITS] = vec4<u32>(lse_bits, 0u, 0u, 0u); }`,
}
