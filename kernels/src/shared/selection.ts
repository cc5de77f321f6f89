/**
 * WGSL that selections without a sort share. They rank a row's blocks by u32 keys, one workgroup a row, find the
 * key at the cut by bisection, and add to the plan's forced blocks those above the cut and as many of its ties as fit.
 * Needs `u.words` and `plan`.
 */

/** `is_forced(row, c)`: the plan holds the block already. */
export const isForcedFunction: string = `\
fn is_forced(row: u32, c: u32) -> bool {
  return ((plan[row * u.words + c / 32u] >> (c & 31u)) & 1u) == 1u;
}`

/** `workgroup_sum(local, value)`. Needs `partial`, an array of 64 of the type. */
export const workgroupSumFunction = (type: 'f32' | 'u32'): string => `\
// The sum over all invocations, in a fixed order.
fn workgroup_sum(local: u32, value: ${type}) -> ${type} {
  workgroupBarrier();
  partial[local] = value;
  workgroupBarrier();
  var sum = ${type === 'f32' ? '0.0' : '0u'};
  for (var i = 0u; i < 64u; i++) { sum += partial[i]; }
  return sum;
}`

export interface PackSelectionOptions {
  /** Of a workgroup; default 64. */
  readonly invocations?: number
  /** Name and expression of the key of block `c`. */
  readonly name: string
  readonly key: string
  /** Is the block kept, ties apart? May use the name and `cut`. */
  readonly keep: string
  /** Is a tie kept, `tie` of them coming before it? */
  readonly keepTie: string
}

/**
 * Statements that write row `row` of the plan. Needs `cut`, `visible`, `tie_counts`, a u32 an
 * invocation, and `is_forced`.
 */
export const packSelection = ({ invocations = 64, name, key, keep, keepTie }: PackSelectionOptions): string => `\
  var ties_before = 0u;
  for (var first = 0u; first < u.words; first += ${invocations}u) {
    let word = first + local;
    let end = min((word + 1u) * 32u, visible);
    var ties = 0u;
    for (var c = word * 32u; c < end; c++) {
      if (${key} == cut && !is_forced(row, c)) { ties++; }
    }
    workgroupBarrier();
    tie_counts[local] = ties;
    workgroupBarrier();
    var tie = ties_before;
    for (var i = 0u; i < ${invocations}u; i++) {
      if (i < local) { tie += tie_counts[i]; }
      ties_before += tie_counts[i];
    }
    if (word < u.words) {
      var bits = plan[row * u.words + word];
      for (var c = word * 32u; c < end; c++) {
        let ${name} = ${key};
        var kept = ${keep};
        if (${name} == cut && !is_forced(row, c)) {
          kept = kept || ${keepTie};
          tie++;
        }
        if (kept) { bits |= 1u << (c & 31u); }
      }
      plan[row * u.words + word] = bits;
    }
  }`
