import type { WalkedPlan } from '../walk.js'

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
  /** An expression: `walk` at the next tile. */
  readonly next: string
  /** The key at a position of the tile of `walk` is `lane(position) + step(position)`; key_length or more where none is. */
  readonly lane: (position: string) => string
  readonly step: (position: string) => string
  /** Statements that read what `seen` needs of the tile of `walk`, and that store it once the tile before is done with. */
  readonly fetch: string
  readonly put: string
  /** An expression: some row of the workgroup does not see some place of the tile of `walk`. Uniform. */
  readonly partial: string
  /** Statements that declare `seen`: how many positions of the tile of `now` this row sees, from the first on. */
  readonly seen: string
}

interface Spans {
  readonly parameters: string
  readonly args: string
  /** Statements that set `walk.tile` and `walk.span_end` to the keys of `block`; may return END. */
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
    walk.bits &= walk.bits - 1u;
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
  next: `next_tile(walk, plan_row, block_end${args})`,
  lane: (position) => position,
  step: () => 'walk.tile',
  fetch: '',
  put: '',
  partial: `walk.tile + KEYS > ${seenEnd.replace('row_end', 'full_end').replace('now.', 'walk.')}`,
  seen: `\
var seen = KEYS;
if (now.tile + KEYS > ${seenEnd.replace('row_end', 'full_end')}) { seen = min(max(${seenEnd}, now.tile) - now.tile, KEYS); }`,
})

/** Gathered keys: the tile's are listed in workgroup memory, in ascending order, so that a row sees the first ones. */
const stripeWalk: PulledWalk = {
  declarations: `\
struct Walk {
  tile: u32, // position of its first key among those of the list
  list: u32,
  start: u32, // of the list, in indices
  positions: u32, // keys of the list
  width: u32,
}

const END = Walk(NONE, 0u, 0u, 0u, 1u);

var<workgroup> tile_keys: array<u32, KEYS>; // behind the last one NONE

fn key_at(walk: Walk, position: u32) -> u32 {
  if (position >= walk.positions) { return NONE; }
  if (u.dense != 0u) { return position; }
  return indices[walk.start + position / walk.width] + position % walk.width;
}

fn next_tile(present: Walk, plan_row: u32, block_end: u32) -> Walk {
  var walk = present;
  walk.tile += KEYS;
  loop {
    if (walk.tile < walk.positions) {
      if (key_at(walk, walk.tile) < block_end) { return walk; }
    }
    if (walk.list == u.lists) { return END; }
    let second = walk.list != 0u;
    let capacity = select(u.capacity_0, u.capacity_1, second);
    walk.width = select(u.width_0, u.width_1, second);
    walk.start = select(0u, u.list_rows * u.capacity_0, second) + plan_row * capacity;
    walk.positions = u.key_length;
    if (u.dense == 0u) { walk.positions = walk.width * min(counts[walk.list * u.list_rows + plan_row], capacity); }
    walk.list++;
    walk.tile = 0u;
  }
}`,
  workgroupBytes: 64,
  start: 'var walk = next_tile(Walk(0u, 0u, 0u, 0u, 1u), plan_row, block_end);',
  next: 'next_tile(walk, plan_row, block_end)',
  lane: () => '0u',
  step: (position) => `key_at(walk, walk.tile + ${position})`,
  fetch: `\
var place = NONE;
if (local < KEYS) { place = key_at(walk, walk.tile + local); }`,
  put: 'if (local < KEYS) { tile_keys[local] = place; }',
  partial: 'key_at(walk, walk.tile + KEYS - 1u) >= full_end',
  seen: `\
var seen = KEYS;
if (tile_keys[KEYS - 1u] >= full_end) {
  seen = 0u;
  for (var i = 0u; i < KEYS; i++) { seen += u32(tile_keys[i] < row_end); }
}`,
}

export const pulledWalks: Readonly<Record<WalkedPlan, PulledWalk>> = {
  block: spans({
    parameters: '',
    args: '',
    span: `walk.tile = block * u.plan_block_k;
    walk.span_end = min(walk.tile + u.plan_block_k, block_end);`,
    // Blocks are whole tiles, except for the last visible one.
    seenEnd: 'row_end',
  }),
  stripe: stripeWalk,
  'variable-block': spans({
    parameters: ', key_start: u32',
    args: ', key_start',
    span: `if (block >= u.key_blocks) { return END; }
    walk.tile = key_starts[key_start + block];
    walk.span_end = min(key_starts[key_start + block + 1u], block_end);`,
    seenEnd: 'min(row_end, now.span_end)',
  }),
}
