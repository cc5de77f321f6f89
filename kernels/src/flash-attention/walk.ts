import type { BindingKind, PlanKind } from '@sparse-attention/core'
import { stripeListUniforms } from '../shared/stripe-lists.js'
import type { UniformFields } from '../shared/uniforms.js'
import { indent } from '../shared/wgsl.js'

/** Kinds of plans that have lists to walk; a dense one is walked by any of them. */
export type WalkedPlan = Exclude<PlanKind, 'dense'>

/**
 * How a workgroup finds its rows and the keys they read, as WGSL. A kernel's body runs once for each tile of at most
 * TILE_KEYS keys, and does not know what kind of plan they come from.
 *
 * The kernel declares `batch`, `head`, `block_end` (keys before it are visible to some row) and `row_end` (to this row).
 */
export interface Walk {
  /** Bound after q, k, v, out and lse. */
  readonly bindings: readonly { readonly kind: BindingKind; readonly name: string; readonly type: string }[]
  readonly uniforms: UniformFields
  /** Module scope: functions and workgroup variables. */
  readonly declarations: (tileKeys: number) => string
  /** Bytes of workgroup memory in the declarations. */
  readonly workgroupBytes: (tileKeys: number) => number
  /**
   * Statements that declare `first_row`, `end_row` and `plan_row` from `row_block`; they may return. Uniform over the
   * workgroup.
   */
  readonly rows: (rowsPerWorkgroup: number) => string
  /** The loops around a tile. */
  readonly tiles: (body: string) => string
  /** Statements that must precede the body's first barrier, by every invocation. Needs `local`. */
  readonly beforeTile: string
  /** The key at a position of the tile; past its end anything. */
  readonly key: (position: string) => string
  /** u32: how many positions from the first on this row sees; the rest it does not. */
  readonly visible: string
  /** The position behind the last one of the walk that the tile is part of. Uniform. */
  readonly end: string
}

const fixedRows = (rowsPerWorkgroup: number) => `\
let first_row = row_block * ${rowsPerWorkgroup}u;
let end_row = min(first_row + ${rowsPerWorkgroup}u, u.query_length);
let plan_row = (batch * u.plan_heads + head * u.plan_heads / u.query_heads) * u.plan_rows + first_row / u.plan_block_q;`

/**
 * Of a word of a plan, an expression: how many bits are set from the bit `first` on, which is the first one. Blocks of any
 * size that follow one another are one span of keys: the one tile that it does not fill is its last.
 */
export const runOfBits = (bits: string, first: string): string => `countTrailingZeros(~(${bits} >> (${first})))`

/** The word without that run: adding carries through it. */
export const withoutRun = (bits: string, first: string): string => `${bits} & (${bits} + (1u << (${first})))`

/** Blocks of a bitmap, by the trailing bit, which `blockRange` takes from `bits`. A dense plan is one whose bits are all set. */
const bits = (body: string, blockRange: string) => `\
for (var word = 0u; word < u.plan_words; word++) {
  var bits = 0xffffffffu;
  if (u.dense == 0u) { bits = plan[plan_row * u.plan_words + word]; }
  while (bits != 0u) {
    let block = word * 32u + firstTrailingBit(bits);
    ${blockRange}
    for (var tile = span_start; tile < span_end; tile += TILE_KEYS) {
      ${indent(body, 6)}
    }
  }
}`

const contiguous = {
  declarations: () => '',
  workgroupBytes: () => 0,
  beforeTile: '',
  end: 'span_end',
  key: (position: string) => `tile + ${position}`,
  visible: 'u32(clamp(i32(min(row_end, span_end)) - i32(tile), 0, i32(TILE_KEYS)))',
}

const blockWalk: Walk = {
  ...contiguous,
  bindings: [{ kind: 'read', name: 'plan', type: 'array<u32>' }],
  uniforms: {
    plan_heads: 'u32',
    plan_block_q: 'u32',
    plan_block_k: 'u32',
    plan_rows: 'u32',
    plan_words: 'u32',
  },
  rows: fixedRows,
  tiles: (body) =>
    bits(
      body,
      `bits &= bits - 1u;
    let span_start = block * u.plan_block_k;
    let span_end = min(span_start + u.plan_block_k, block_end);`,
    ),
}

const variableBlockWalk: Walk = {
  ...contiguous,
  bindings: [
    { kind: 'read', name: 'plan', type: 'array<u32>' },
    { kind: 'read', name: 'key_starts', type: 'array<u32>' },
    { kind: 'read', name: 'row_items', type: 'array<vec4<u32>>' },
  ],
  uniforms: {
    key_heads: 'u32',
    plan_block_k: 'u32',
    /** Row blocks of a head, of which the last ones may be empty. */
    row_items: 'u32',
    query_blocks: 'u32',
    key_blocks: 'u32',
    plan_words: 'u32',
  },
  rows: () => `\
let item = row_items[(batch * u.query_heads + head) * u.row_items + row_block]; // first row, end row, query block
let first_row = item.x;
let end_row = item.y;
if (first_row >= end_row) { return; }
let plan_row = (batch * u.query_heads + head) * u.query_blocks + item.z;
let key_start = (batch * u.key_heads + head * u.key_heads / u.query_heads) * (u.key_blocks + 1u);`,
  tiles: (body) =>
    bits(
      body,
      `let end_block = block + ${runOfBits('bits', 'block % 32u')};
    bits = ${withoutRun('bits', 'block % 32u')};
    var span_start = block * u.plan_block_k;
    var span_end = min(end_block * u.plan_block_k, block_end);
    if (u.dense == 0u) {
      if (block >= u.key_blocks) { break; }
      span_start = key_starts[key_start + block];
      span_end = min(key_starts[key_start + min(end_block, u.key_blocks)], block_end);
    }`,
    ),
}

/** Stripes pass through a list of the tile's keys in workgroup memory. They ascend, so a row sees the first ones. */
const stripeWalk: Walk = {
  bindings: [
    { kind: 'read', name: 'counts', type: 'array<u32>' },
    { kind: 'read', name: 'indices', type: 'array<u32>' },
  ],
  uniforms: {
    plan_heads: 'u32',
    plan_block_q: 'u32',
    plan_rows: 'u32',
    list_rows: 'u32',
    ...stripeListUniforms,
  },
  declarations: (tileKeys) => `\
var<workgroup> tile_keys: array<u32, ${tileKeys}>; // ascending; past the end of a list 0xffffffff

fn visible_keys(row_end: u32) -> u32 {
  var visible = 0u;
  for (var j = 0u; j < TILE_KEYS; j++) { visible += u32(tile_keys[j] < row_end); }
  return visible;
}`,
  workgroupBytes: (tileKeys) => 4 * tileKeys,
  end: 'positions',
  rows: fixedRows,
  tiles: (body) => `\
for (var list = 0u; list < u.lists; list++) {
  let width = select(u.width_1, u.width_0, list == 0u);
  let capacity = select(u.capacity_1, u.capacity_0, list == 0u);
  let list_start = select(u.list_rows * u.capacity_0, 0u, list == 0u) + plan_row * capacity;
  var positions = u.key_length;
  if (u.dense == 0u) { positions = width * min(counts[list * u.list_rows + plan_row], capacity); }
  for (var tile = 0u; tile < positions; tile += TILE_KEYS) {
    var first_key = tile;
    if (u.dense == 0u) { first_key = indices[list_start + tile / width] + tile % width; }
    if (first_key >= block_end) { break; }
    ${indent(body, 4)}
  }
}`,
  beforeTile: `\
workgroupBarrier();
if (local < TILE_KEYS) {
  let position = tile + local;
  var key = position;
  if (u.dense == 0u && position < positions) { key = indices[list_start + position / width] + position % width; }
  tile_keys[local] = select(0xffffffffu, key, position < positions && key < u.key_length);
}`,
  key: (position) => `tile_keys[${position}]`,
  visible: 'visible_keys(row_end)',
}

export const walks: Readonly<Record<WalkedPlan, Walk>> = {
  block: blockWalk,
  stripe: stripeWalk,
  'variable-block': variableBlockWalk,
}
