import { runOfBits, type WalkedPlan, withoutRun } from '../walk.js'

/**
 * How a workgroup goes from tile to tile of KEYS keys, one ahead of the computation, as WGSL. Bindings, uniforms and rows
 * are those of the plan's `Walk`; what differs is that tiles are pulled: the keys of the next one are fetched while the
 * present one is computed.
 *
 * The kernel declares `local`, `plan_row`, `row_end` (keys before it are visible to this row), `full_end` (to every row of
 * the workgroup) and `block_end` (to some row).
 */
export interface PulledWalk {
  /** Module scope: `struct Walk`, whose `tile` is NONE behind the last tile, and `next_tile(walk, …)`. */
  readonly declarations: string
  readonly workgroupBytes: number
  /** Statements that declare `walk`, at its first tile. */
  readonly start: string
  /** Statements that set `walk` to its next tile. */
  readonly advance: string
  /** The key at a position of the tile of `walk` is `lane(position) + step(position)`; key_length or more where none is. */
  readonly lane: (position: string) => string
  readonly step: (position: string) => string
  /** Statements that read what later tiles need, and that store it for them, with a barrier before the next `advance`. */
  readonly fetch: string
  readonly put: string
  /** An expression: some row of the workgroup does not see some place of the tile of `walk`. */
  readonly partial: string
  /** Statements that declare `seen`: how many positions of the tile of `now` this row sees, from the first on. */
  readonly seen: string
}

interface Spans {
  readonly parameters: string
  readonly args: string
  /** Statements that take `block` from `walk.bits` and set `walk.tile` and `walk.span_end` to its keys; may return END. */
  readonly span: string
  readonly seenEnd: string
}

/** Tiles of contiguous keys: blocks of a bitmap, by the trailing bit. A dense plan is one span. */
const spans = ({ parameters, args, span, seenEnd }: Spans): PulledWalk => ({
  declarations: `\
struct Walk {
  tile: u32, // its first key
  span_end: u32,
  word: u32, // of the plan's row, the next one to read
  bits: u32, // blocks left of the word before
}

const END = Walk(NONE, 0u, 0u, 0u);

fn next_tile(present: Walk, plan_row: u32, block_end: u32${parameters}) -> Walk {
  var walk = present;
  walk.tile += KEYS;
  while (walk.tile >= walk.span_end) {
    while (walk.bits == 0u) {
      if (walk.word == u.plan_words) { return END; }
      walk.bits = plan[plan_row * u.plan_words + walk.word];
      walk.word++;
    }
    let block = (walk.word - 1u) * 32u + firstTrailingBit(walk.bits);
    ${span}
    if (walk.tile >= block_end) { return END; }
  }
  return walk;
}`,
  workgroupBytes: 0,
  start: `\
var walk = Walk(0u, block_end, u.plan_words, 0u);
if (block_end == 0u) {
  walk = END;
} else if (u.dense == 0u) {
  walk = next_tile(Walk(), plan_row, block_end${args});
}`,
  advance: `walk = next_tile(walk, plan_row, block_end${args});`,
  lane: (position) => position,
  step: () => 'walk.tile',
  fetch: '',
  put: '',
  partial: `walk.tile + KEYS > ${seenEnd.replace('row_end', 'full_end').replace('now.', 'walk.')}`,
  seen: `\
var seen = KEYS;
if (now.tile + KEYS > ${seenEnd.replace('row_end', 'full_end')}) { seen = min(max(${seenEnd}, now.tile) - now.tile, KEYS); }`,
})

/**
 * Gathered keys. Where a tile's keys are is known two tiles ahead: they are read while one tile is computed, listed in
 * workgroup memory, and K and V of them fetched while the next one is. They ascend, so a row sees the first ones. Widths are
 * powers of two: a division for each key would cost more than its products.
 */
const stripeWalk: PulledWalk = {
  declarations: `\
struct Walk {
  tile: u32, // position of its first key among those of the list
  first: u32, // stripe of that key
  place: u32, // where tile_keys has its keys
  list: u32,
  start: u32, // of the list, in indices
  positions: u32, // keys of the list
  width: u32,
  shift: u32, // log2 of the width
}

var<workgroup> tile_keys: array<u32, 48>; // of three tiles; behind the last key NONE

// First key of the stripe that holds a position. It is on its way from memory: whoever computes with it, waits.
fn stripe_of(walk: Walk, position: u32) -> u32 {
  return indices[walk.start + (position >> walk.shift)];
}

fn key_at(walk: Walk, position: u32, stripe: u32) -> u32 {
  if (position >= walk.positions) { return NONE; }
  if (u.dense != 0u) { return position; }
  return stripe + (position & (walk.width - 1u));
}

// A list is left one tile after its keys have passed block_end: nothing has to wait for the key that tells.
fn next_tile(present: Walk, plan_row: u32, block_end: u32) -> Walk {
  var walk = present;
  let first = key_at(walk, walk.tile, walk.first);
  walk.place = select(walk.place + KEYS, 0u, walk.place == 2u * KEYS);
  walk.tile += KEYS;
  if (walk.tile >= walk.positions || first >= block_end) {
    walk.tile = 0u;
    walk.positions = 0u;
    while (walk.positions == 0u && walk.list < u.lists) {
      let second = walk.list != 0u;
      let capacity = select(u.capacity_0, u.capacity_1, second);
      walk.width = select(u.width_0, u.width_1, second);
      walk.shift = firstTrailingBit(walk.width);
      walk.start = select(0u, u.list_rows * u.capacity_0, second) + plan_row * capacity;
      walk.positions = u.key_length;
      if (u.dense == 0u) { walk.positions = walk.width * min(counts[walk.list * u.list_rows + plan_row], capacity); }
      walk.list++;
    }
    if (walk.positions == 0u) { walk.tile = NONE; }
  }
  walk.first = stripe_of(walk, walk.tile);
  return walk;
}`,
  workgroupBytes: 192,
  start: `\
var walk = next_tile(Walk(0u, 0u, 2u * KEYS, 0u, 0u, 0u, 1u, 0u), plan_row, block_end);
var ahead = next_tile(walk, plan_row, block_end);
if (local < KEYS) { tile_keys[local] = key_at(walk, walk.tile + local, stripe_of(walk, walk.tile + local)); }
workgroupBarrier();`,
  advance: `\
walk = ahead;
ahead = next_tile(ahead, plan_row, block_end);`,
  lane: () => '0u',
  step: (position) => `tile_keys[walk.place + ${position}]`,
  fetch: `\
var stripe_ahead = 0u;
if (local < KEYS) { stripe_ahead = stripe_of(ahead, ahead.tile + local); }`,
  put: 'if (local < KEYS) { tile_keys[ahead.place + local] = key_at(ahead, ahead.tile + local, stripe_ahead); }',
  partial: 'tile_keys[walk.place + KEYS - 1u] >= full_end',
  seen: `\
var seen = KEYS;
if (tile_keys[now.place + KEYS - 1u] >= full_end) {
  seen = 0u;
  for (var i = 0u; i < KEYS; i++) { seen += u32(tile_keys[now.place + i] < row_end); }
}`,
}

export const pulledWalks: Readonly<Record<WalkedPlan, PulledWalk>> = {
  block: spans({
    parameters: '',
    args: '',
    span: `walk.bits &= walk.bits - 1u;
    walk.tile = block * u.plan_block_k;
    walk.span_end = min(walk.tile + u.plan_block_k, block_end);`,
    // Blocks are whole tiles, except for the last visible one.
    seenEnd: 'row_end',
  }),
  stripe: stripeWalk,
  'variable-block': spans({
    parameters: ', key_start: u32',
    args: ', key_start',
    span: `if (block >= u.key_blocks) { return END; }
    let end_block = min(block + ${runOfBits('walk.bits', 'block % 32u')}, u.key_blocks);
    walk.bits = ${withoutRun('walk.bits', 'block % 32u')};
    walk.tile = key_starts[key_start + block];
    walk.span_end = min(key_starts[key_start + end_block], block_end);`,
    seenEnd: 'min(row_end, now.span_end)',
  }),
}

/** The blocks of a piece of a row, from `piece.y` on: `block_end` is its own. Never dense. */
export const pieceWalk: PulledWalk = {
  ...pulledWalks.block,
  start: `\
let first_word = plan_row * u.plan_words + piece.y / 32u;
let first_bits = plan[first_word] & (0xffffffffu << (piece.y % 32u));
var walk = next_tile(Walk(0u, 0u, piece.y / 32u + 1u, first_bits), plan_row, block_end);`,
}
