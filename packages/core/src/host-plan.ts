import {
  type BlockGeometry,
  blockGrid,
  lastVisibleKey,
  type PermutationGeometry,
  type PlanGeometry,
  type StripeGeometry,
  type VariableBlockGeometry,
} from './plan.js'

/** Orders of tokens on the host: the token at each position of a plan. */
export interface HostPermutation extends PermutationGeometry {
  /** i32[B, Hq, Lq] */
  readonly queries: Int32Array
  /** i32[B, keyHeads, Lk] */
  readonly keys: Int32Array
}

/** A block plan on the host. */
export interface HostBlockPlan extends BlockGeometry {
  readonly kind: 'block'
  /** u32[B, Hq, nq, ceil(nk/32)] */
  readonly bitmap: Uint32Array
}

/** A stripe plan on the host. */
export interface HostStripePlan extends StripeGeometry {
  readonly kind: 'stripe'
  /** i32[lists, B, heads, nq] */
  readonly counts: Int32Array
  /** Lists one after another, each i32[B, heads, nq, capacity] */
  readonly indices: Int32Array
}

/** A plan of blocks of different sizes on the host. */
export interface HostVariableBlockPlan extends VariableBlockGeometry {
  readonly kind: 'variable-block'
  /** u32[B, Hq, queryBlocks, ceil(keyBlocks/32)] */
  readonly bitmap: Uint32Array
  /** i32[B, Hq, queryBlocks + 1] */
  readonly queryStarts: Int32Array
  /** i32[B, keyHeads, keyBlocks + 1] */
  readonly keyStarts: Int32Array
}

/** A plan on the host: what `plan.read()` returns, `uploadPlan` takes, and pictures and tests work on. */
export type HostPlan = HostBlockPlan | HostStripePlan | HostVariableBlockPlan | HostPermutedPlan

/** A plan of blocks of permuted tokens on the host. */
export type HostPermutedPlan = (HostBlockPlan | HostVariableBlockPlan) & { readonly permutation: HostPermutation }

/** Is key block c of query block a of head h in the plan? */
export function hasBlock(plan: HostBlockPlan, batch: number, head: number, a: number, c: number): boolean {
  const { queryBlocks, wordsPerRow } = blockGrid(plan)
  const word = ((batch * plan.queryHeads + head) * queryBlocks + a) * wordsPerRow + (c >> 5)
  return ((plan.bitmap[word]! >>> (c & 31)) & 1) === 1
}

/** Query rows [firstRow, endRow) of a head that share a selection. */
export interface PlanRows {
  readonly batch: number
  readonly head: number
  readonly firstRow: number
  readonly endRow: number
  /** What they keep, as first and end of ranges of keys, one after another: ascending, disjoint, causality not applied. */
  readonly keys: readonly number[]
}

/**
 * Visits a plan's rows, block after block of each head, whatever the plan's kind. Of a plan with a permutation each row comes
 * for itself, with its token and the tokens that it keeps.
 */
export function forEachPlanRows(plan: HostPlan, visit: (rows: PlanRows) => void): void {
  forEachBlockRows(plan, (rows) => {
    const tokens = tokensOf(plan, rows)
    if (!tokens) return visit(rows)
    const kept = new Uint8Array(plan.keyLength)
    for (let i = 0; i < rows.keys.length; i += 2) {
      for (let position = rows.keys[i]!; position < rows.keys[i + 1]!; position++) kept[tokens.keys[position]!] = 1
    }
    const keys: number[] = []
    for (let key = 0; key < plan.keyLength; key++) if (kept[key]) append(keys, key, key + 1)
    for (let position = rows.firstRow; position < rows.endRow; position++) {
      const row = tokens.queries[position]!
      visit({ ...rows, firstRow: row, endRow: row + 1, keys })
    }
  })
}

/** The tokens at the positions of a head, if the plan is of permuted ones. */
function tokensOf(
  plan: HostPlan,
  { batch, head }: Pick<PlanRows, 'batch' | 'head'>,
): { readonly queries: Int32Array; readonly keys: Int32Array } | undefined {
  if (!('permutation' in plan)) return undefined
  const { queries, keys, keyHeads } = plan.permutation
  const queryHead = batch * plan.queryHeads + head
  const keyHead = batch * keyHeads + Math.floor((head * keyHeads) / plan.queryHeads)
  return {
    queries: queries.subarray(queryHead * plan.queryLength, (queryHead + 1) * plan.queryLength),
    keys: keys.subarray(keyHead * plan.keyLength, (keyHead + 1) * plan.keyLength),
  }
}

/** The same in the plan's own order of tokens. */
function forEachBlockRows(plan: HostPlan, visit: (rows: PlanRows) => void): void {
  for (let batch = 0; batch < plan.batch; batch++) {
    for (let head = 0; head < plan.queryHeads; head++) {
      const blocks = plan.kind === 'variable-block' ? plan.queryBlocks : Math.ceil(plan.queryLength / plan.blockQ)
      for (let a = 0; a < blocks; a++) {
        const [firstRow, endRow] = rowsOf(plan, batch, head, a)
        if (firstRow < endRow) visit({ batch, head, firstRow, endRow, keys: keysOf(plan, batch, head, a) })
      }
    }
  }
}

function rowsOf(plan: HostPlan, batch: number, head: number, a: number): [first: number, end: number] {
  if (plan.kind !== 'variable-block') return [a * plan.blockQ, Math.min((a + 1) * plan.blockQ, plan.queryLength)]
  const at = (batch * plan.queryHeads + head) * (plan.queryBlocks + 1) + a
  return [plan.queryStarts[at]!, plan.queryStarts[at + 1]!]
}

function keysOf(plan: HostPlan, batch: number, head: number, a: number): number[] {
  switch (plan.kind) {
    case 'block': {
      const keys: number[] = []
      for (let c = 0; c * plan.blockK < plan.keyLength; c++) {
        if (hasBlock(plan, batch, head, a, c))
          append(keys, c * plan.blockK, Math.min((c + 1) * plan.blockK, plan.keyLength))
      }
      return keys
    }
    case 'stripe':
      return stripesOf(plan, batch, head, a)
    case 'variable-block': {
      const keys: number[] = []
      const words = Math.ceil(plan.keyBlocks / 32)
      const word = ((batch * plan.queryHeads + head) * plan.queryBlocks + a) * words
      const keyHead = batch * plan.keyHeads + Math.floor((head * plan.keyHeads) / plan.queryHeads)
      for (let c = 0; c < plan.keyBlocks; c++) {
        if (((plan.bitmap[word + (c >> 5)]! >>> (c & 31)) & 1) === 0) continue
        const at = keyHead * (plan.keyBlocks + 1) + c
        append(keys, plan.keyStarts[at]!, plan.keyStarts[at + 1]!)
      }
      return keys
    }
  }
}

function stripesOf(plan: HostStripePlan, batch: number, head: number, a: number): number[] {
  const blocks = Math.ceil(plan.queryLength / plan.blockQ)
  const rows = plan.batch * plan.heads * blocks
  const row = (batch * plan.heads + Math.floor((head * plan.heads) / plan.queryHeads)) * blocks + a
  const ranges: [first: number, end: number][] = []
  let list = 0
  for (const [n, { width, capacity }] of plan.lists.entries()) {
    for (let i = 0; i < plan.counts[n * rows + row]!; i++) {
      const first = plan.indices[list + row * capacity + i]!
      ranges.push([first, Math.min(first + width, plan.keyLength)])
    }
    list += rows * capacity
  }
  const keys: number[] = []
  for (const [first, end] of ranges.sort(([x], [y]) => x - y)) append(keys, first, end)
  return keys
}

/** Ranges that touch become one. */
function append(keys: number[], first: number, end: number): void {
  if (first >= end) return
  if (keys[keys.length - 1] === first) keys[keys.length - 1] = end
  else keys.push(first, end)
}

/** Query–key pairs of rows [firstRow, endRow) and keys [firstKey, endKey) that causality leaves visible. */
export function visiblePairs(
  plan: Pick<PlanGeometry, 'queryLength' | 'keyLength' | 'causal'>,
  firstRow: number,
  endRow: number,
  firstKey: number,
  endKey: number,
): number {
  const rows = endRow - firstRow
  const keys = endKey - firstKey
  if (rows <= 0 || keys <= 0) return 0
  if (!plan.causal) return rows * keys
  // Row i sees i + offset + 1 keys: none of the range up to row `none`, all of it from row `all` on.
  const offset = plan.keyLength - plan.queryLength
  const clampRow = (row: number) => Math.max(firstRow, Math.min(endRow, row))
  const none = clampRow(firstKey - offset)
  const all = clampRow(endKey - offset - 1)
  const seenBy = (row: number) => row + offset + 1 - firstKey
  return ((all - none) * (seenBy(none) + seenBy(all - 1))) / 2 + (endRow - all) * keys
}

/** Counts of query–key pairs: `kept` by the plan and `visible` under the causal rule, summed over batch and heads. */
export function countPairs(plan: HostPlan): { kept: number; visible: number } {
  const heads = headPairs(plan)
  return {
    kept: heads.reduce((sum, { kept }) => sum + kept, 0),
    visible: heads.reduce((sum, { visible }) => sum + visible, 0),
  }
}

/** The same for each head [B · Hq]. */
export function headPairs(plan: HostPlan): { kept: number; visible: number }[] {
  const visible = visiblePairs(plan, 0, plan.queryLength, 0, plan.keyLength)
  const heads = Array.from({ length: plan.batch * plan.queryHeads }, () => ({ kept: 0, visible }))
  // A permutation changes no count: plans that have one are not causal.
  forEachBlockRows(plan, ({ batch, head, firstRow, endRow, keys }) => {
    const counts = heads[batch * plan.queryHeads + head]!
    for (let i = 0; i < keys.length; i += 2) counts.kept += visiblePairs(plan, firstRow, endRow, keys[i]!, keys[i + 1]!)
  })
  return heads
}

/**
 * Share of the visible pairs that the plan keeps in each cell of `rows` queries × `columns` keys, NaN where no pair is
 * visible. f32[B, Hq, ceil(Lq/rows), ceil(Lk/columns)]
 */
export function keptShares(plan: HostPlan, rows: number, columns: number): Float32Array {
  const down = Math.ceil(plan.queryLength / rows)
  const across = Math.ceil(plan.keyLength / columns)
  const kept = new Float64Array(plan.batch * plan.queryHeads * down * across)
  forEachBlockRows(plan, (planRows) => {
    const { batch, head, firstRow, endRow, keys } = planRows
    const tokens = tokensOf(plan, planRows)
    if (tokens) {
      // Every row that shares the selection keeps every key of it.
      const [inRow, inColumn] = [new Uint32Array(down), new Uint32Array(across)]
      for (let position = firstRow; position < endRow; position++) {
        const y = Math.floor(tokens.queries[position]! / rows)
        inRow[y] = inRow[y]! + 1
      }
      for (let i = 0; i < keys.length; i += 2) {
        for (let position = keys[i]!; position < keys[i + 1]!; position++) {
          const x = Math.floor(tokens.keys[position]! / columns)
          inColumn[x] = inColumn[x]! + 1
        }
      }
      const first = (batch * plan.queryHeads + head) * down * across
      for (let y = 0; y < down; y++) {
        if (inRow[y] === 0) continue
        for (let x = 0; x < across; x++) kept[first + y * across + x]! += inRow[y]! * inColumn[x]!
      }
      return
    }
    for (let y = Math.floor(firstRow / rows); y * rows < endRow; y++) {
      const [top, bottom] = [Math.max(firstRow, y * rows), Math.min(endRow, (y + 1) * rows)]
      const at = ((batch * plan.queryHeads + head) * down + y) * across
      for (let i = 0; i < keys.length; i += 2) {
        const [first, end] = [keys[i]!, keys[i + 1]!]
        for (let x = Math.floor(first / columns); x * columns < end; x++) {
          const [left, right] = [Math.max(first, x * columns), Math.min(end, (x + 1) * columns)]
          kept[at + x]! += visiblePairs(plan, top, bottom, left, right)
        }
      }
    }
  })
  return Float32Array.from(kept, (pairs, cell) => {
    const [x, y] = [cell % across, Math.floor(cell / across) % down]
    const [endRow, endKey] = [Math.min((y + 1) * rows, plan.queryLength), Math.min((x + 1) * columns, plan.keyLength)]
    return pairs / visiblePairs(plan, y * rows, endRow, x * columns, endKey)
  })
}

/** The plan as a dense mask u8[B, Hq, Lq, Lk]: 1 where the pair is computed (causality included). */
export function denseMask(plan: HostPlan): Uint8Array {
  const { queryHeads, queryLength, keyLength } = plan
  const mask = new Uint8Array(plan.batch * queryHeads * queryLength * keyLength)
  forEachPlanRows(plan, ({ batch, head, firstRow, endRow, keys }) => {
    for (let row = firstRow; row < endRow; row++) {
      const at = ((batch * queryHeads + head) * queryLength + row) * keyLength
      const end = lastVisibleKey(plan, row) + 1
      for (let i = 0; i < keys.length && keys[i]! < end; i += 2)
        mask.fill(1, at + keys[i]!, at + Math.min(keys[i + 1]!, end))
    }
  })
  return mask
}
