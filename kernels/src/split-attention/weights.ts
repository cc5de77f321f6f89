import { LOWEST, range } from '../shared/wgsl.js'
import { type Cells, type Form, type Index, unrolled } from './form.js'

/** What the softmax of a step of keys works on. */
interface Products {
  readonly form: Form
  readonly rows: number
  readonly keys: number
  readonly lanesPerKey: number
  /** vec4<f32> of a lane. */
  readonly vectors: number
  /** [keys, rows]: what each lane has of the products of queries and keys; afterwards the weights, the same in all lanes of a key. */
  readonly score: Cells
  /** [rows, vectors] */
  readonly acc: Cells
}

/** An online softmax, in base 2. */
export interface Weights {
  /** The largest score of each row so far, and the sum of its weights below that: after `finish`. */
  readonly rowMax: Cells
  readonly rowSum: Cells
  readonly declarations: string
  /** Turns products into weights, and rescales `acc` where a maximum has grown. */
  readonly fromProducts: string
  readonly finish: string
}

/** The difference may overflow on huge logits; any number below −126 gives the same 0. */
const below = (difference: string) => `exp2(max(${difference}, -1000.0))`
const lines = (code: readonly string[]) => code.join('\n')
const literal = (index: Index) => (typeof index === 'number' ? `${index}u` : index)

/**
 * Every lane of a key adds up all products of the key and computes its weights: simple, and most of the work where many rows
 * share a key.
 *
 * @param shuffles  else products pass through workgroup memory: `products` and `sums`
 */
export function eachLaneWeights({
  form: { each, cells },
  rows,
  keys,
  lanesPerKey,
  vectors,
  score,
  acc,
  shuffles,
  visible,
}: Products & { readonly shuffles: boolean; visible(j: Index, r: Index): string }): Weights {
  const rowMax = cells('row_max', 'f32', [rows])
  const rowSum = cells('row_sum', 'f32', [rows])
  const eachScore = (body: (j: Index, r: Index) => string) => each('j', keys, (j) => each('r', rows, (r) => body(j, r)))
  const addUp = shuffles
    ? lines(
        range(Math.log2(lanesPerKey)).map((bit) =>
          eachScore((j, r) => `${score.at(j, r)} += subgroupShuffleXor(${score.at(j, r)}, ${1 << bit}u);`),
        ),
      )
    : `\
workgroupBarrier();
${eachScore((j, r) => `products[(${literal(j)} * ROWS + ${literal(r)}) * LANES + local] = ${score.at(j, r)};`)}
workgroupBarrier();
for (var product = lane; product < KEYS * ROWS; product += LANES_PER_KEY) {
  var sum = 0.0;
  for (var i = 0u; i < LANES_PER_KEY; i++) { sum += products[product * LANES + group * LANES_PER_KEY + i]; }
  sums[group * KEYS * ROWS + product] = sum;
}
workgroupBarrier();
${eachScore((j, r) => `${score.at(j, r)} = sums[(group * KEYS + ${literal(j)}) * ROWS + ${literal(r)}];`)}`
  const weigh = each(
    'r',
    rows,
    (r) => `\
{
  var top = ${LOWEST};
  ${each('j', keys, (j) => `if (${visible(j, r)}) { top = max(top, ${score.at(j, r)}); }`)}
  if (top > ${rowMax.at(r)}) {
    let rescale = ${below(`${rowMax.at(r)} - top`)};
    ${rowMax.at(r)} = top;
    ${rowSum.at(r)} *= rescale;
    ${each('i', vectors, (i) => `${acc.at(r, i)} *= rescale;`)}
  }
  ${each(
    'j',
    keys,
    (j) => `\
${score.at(j, r)} = select(0.0, exp2(${score.at(j, r)} - ${rowMax.at(r)}), ${visible(j, r)});
${rowSum.at(r)} += ${score.at(j, r)};`,
  )}
}`,
  )
  return {
    rowMax,
    rowSum,
    declarations: lines([
      rowMax.declaration,
      rowSum.declaration,
      each('r', rows, (r) => `${rowMax.at(r)} = ${LOWEST};`),
    ]),
    fromProducts: lines([addUp, weigh]),
    finish: '',
  }
}

/** Whether `spreadWeights` can share out the weights of a step: every lane of a key gets the same number of them. */
export function canSpread(rows: number, keys: number, lanesPerKey: number): boolean {
  const powerOfTwo = Number.isInteger(Math.log2(rows)) && Number.isInteger(Math.log2(keys))
  return powerOfTwo && rows > 1 && rows <= lanesPerKey && rows * keys >= lanesPerKey
}

/**
 * The lanes of a key share out its products: each exchange with a neighbour halves how many a lane still adds up, so that
 * lane l ends with those of row l mod `rows`, and only of keys that are ⌊l / rows⌋ modulo their number. It computes their
 * weights, and gets the others' back. For code that is unrolled.
 *
 * @param ownEnd  keys before it are visible to the row of a lane
 */
export function spreadWeights({
  rows,
  keys,
  lanesPerKey,
  vectors,
  score,
  acc,
  key,
  ownEnd,
}: Products & { readonly key: Cells; readonly ownEnd: string }): Weights {
  const rowMax = unrolled.cells('row_max', 'f32', [rows])
  const rowSum = unrolled.cells('row_sum', 'f32', [rows])
  const keyLanes = lanesPerKey / rows
  const own = range(keys / keyLanes)
  const keyMasks = range(Math.log2(keyLanes)).map((bit) => rows << bit)

  // [key][row] names of what is left to add up; pairs of neighbouring rows, then of neighbouring keys, become one.
  let left = range(keys).map((j) => range(rows).map((r) => score.at(j, r)))
  const exchanges: string[] = []
  const exchange = (mask: number, name: string, low: string, high: string) => {
    const kept = `select(${low}, ${high}, (lane & ${mask}u) != 0u)`
    const sent = `select(${high}, ${low}, (lane & ${mask}u) != 0u)`
    exchanges.push(`let ${name} = ${kept} + subgroupShuffleXor(${sent}, ${mask}u);`)
    return name
  }
  for (let mask = 1; mask < rows; mask *= 2) {
    left = left.map((names, j) =>
      range(names.length / 2).map((r) => exchange(mask, `sum${mask}_${j}_${r}`, names[2 * r]!, names[2 * r + 1]!)),
    )
  }
  for (const mask of keyMasks) {
    left = range(left.length / 2).map((j) => [
      exchange(mask, `sum${mask}_${j}_0`, left[2 * j]![0]!, left[2 * j + 1]![0]!),
    ])
  }
  const ownKey = (i: number) =>
    range(keyLanes - 1).reduce(
      (otherwise, t) => `select(${otherwise}, ${key.at(i * keyLanes + t)}, lane / ROWS == ${t}u)`,
      key.at((i + 1) * keyLanes - 1),
    )
  const sums = left.map(([name]) => name!)

  const fromProducts = lines([
    ...exchanges,
    ...own.map((i) => `let seen${i} = ${ownKey(i)} < own_end;`),
    `var top = own_max;`,
    ...own.map((i) => `if (seen${i}) { top = max(top, ${sums[i]}); }`),
    ...keyMasks.map((mask) => `top = max(top, subgroupShuffleXor(top, ${mask}u));`),
    `let own_rescale = ${below('own_max - top')};`,
    `own_max = top;`,
    `own_sum *= own_rescale;`,
    ...own.flatMap((i) => [
      `let own_weight${i} = select(0.0, exp2(${sums[i]} - own_max), seen${i});`,
      `own_sum += own_weight${i};`,
    ]),
    ...range(rows).map(
      (r) =>
        `{ let rescale = subgroupShuffle(own_rescale, first_lane + ${r}u); ` +
        `if (rescale < 1.0) { ${range(vectors)
          .map((i) => `${acc.at(r, i)} *= rescale;`)
          .join(' ')} } }`,
    ),
    ...range(keys).flatMap((j) =>
      range(rows).map((r) => {
        const from = `first_lane + ${(j % keyLanes) * rows + r}u`
        return `${score.at(j, r)} = subgroupShuffle(own_weight${Math.floor(j / keyLanes)}, ${from});`
      }),
    ),
  ])
  return {
    rowMax,
    rowSum,
    declarations: lines([
      `let own_end = ${ownEnd};`,
      `var own_max = ${LOWEST};`,
      'var own_sum = 0.0;',
      'let first_lane = subgroup_lane - lane;',
    ]),
    fromProducts,
    finish: lines([
      ...keyMasks.map((mask) => `own_sum += subgroupShuffleXor(own_sum, ${mask}u);`),
      rowMax.declaration,
      rowSum.declaration,
      ...range(rows).flatMap((r) => [
        `${rowMax.at(r)} = subgroupShuffle(own_max, first_lane + ${r}u);`,
        `${rowSum.at(r)} = subgroupShuffle(own_sum, first_lane + ${r}u);`,
      ]),
    ]),
  }
}
