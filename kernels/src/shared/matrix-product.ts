import type { MatrixDialect, MatrixMemory } from './subgroup-matrix.js'
import { indent, range } from './wgsl.js'

/**
 * WGSL that products of rows share on subgroup matrices: a subgroup computes 64 × 64 cells, whose sums stay in registers,
 * from rows of q and k that a workgroup stages 64 or 32 bytes of at a time. The next bytes are fetched meanwhile.
 */

/** Rows and columns of a subgroup's cells; also rows of a slice of staged q or k. */
const SIDE = 64

/** Rows and columns of the cells that a subgroup can look at at once. */
const PATCH = 16

const LANES = 32

export interface MatrixProductOptions {
  /** Subgroups of a workgroup, by rows and columns of cells. */
  readonly subgroupRows: number
  readonly subgroupColumns: number
  /** 16-byte units of head_dim staged at once: 4, or 2. */
  readonly units: 2 | 4
}

/** How a lane fetches what it stages: the n-th unit, of row `row_n` of the workgroup's tile of q or k, at `lane_unit` of the staged ones. */
export interface MatrixProductSource {
  /** Statements before the loop. */
  declare(name: 'q' | 'k', n: number): string
  /** A statement that sets `unit_n` for the present step of the loop; it is zero before. */
  fetch(name: 'q' | 'k', n: number): string
}

export interface MatrixProduct {
  readonly rows: number
  readonly columns: number
  readonly workgroupSize: number
  readonly workgroupBytes: number
  /** Constants and workgroup memory. */
  readonly memory: string
  /** Declares the sums, and what the source needs of a lane. Needs `local` and `subgroup`. */
  readonly declare: string
  /** A loop in which `step` goes on to the next units, and after which `last` is true of them. */
  loop(step: string, last: string): string
  /**
   * `statement` for each eight cells of a lane, `a` and `b` of four: of row `row` of the tile, from column `column` on. Two
   * neighbouring lanes, an even and an odd one, have the two halves of 16 cells of a row; patches go from left to right.
   * Needs uniform control flow.
   */
  store(statement: (patch: { readonly column: number }) => string): string
}

export function matrixProduct(
  dialect: MatrixDialect,
  { subgroupRows, subgroupColumns, units }: MatrixProductOptions,
  source: MatrixProductSource,
): MatrixProduct {
  const { M, N, K } = dialect.shape
  const subgroups = subgroupRows * subgroupColumns
  const workgroupSize = subgroups * LANES
  const [rows, columns] = [SIDE * subgroupRows, SIDE * subgroupColumns]
  // Odd, so that eight rows lie in eight different groups of memory banks.
  const pitch = units + 1
  const patchPitch = PATCH / 4 + 1
  // Slices of q come first. Cells are looked at where the operands were: a subgroup's patch is in the slice of its number.
  const tiles: MatrixMemory = {
    ...{ name: 'tiles', holds: ['f16', 'f32'], units: Math.max(SIDE * pitch, PATCH * patchPitch) },
    copies: Math.max(subgroupRows + subgroupColumns, subgroups),
  }
  const left = { ...tiles, copyOfSubgroup: `subgroup / ${subgroupColumns}u` }
  const right = { ...tiles, copyOfSubgroup: `${subgroupRows}u + subgroup % ${subgroupColumns}u` }

  const loads = range(((rows + columns) * units) / workgroupSize)
  const nameOf = (n: number) => (n * workgroupSize < rows * units ? 'q' : 'k')
  const each = (line: (n: number) => string) => loads.map(line).join('\n')
  const firstOf = { q: 0, k: rows } as const

  const fetch = each((n) => `unit_${n} = vec4<u32>();\n${source.fetch(nameOf(n), n)}`)
  const put = each((n) => {
    const slices = { q: '', k: `${subgroupRows}u + ` }[nameOf(n)]
    const memory = { ...tiles, copyOfLane: `${slices}row_${n} / ${SIDE}u` }
    return dialect.writeHalves(memory, `row_${n} % ${SIDE}u * ${pitch}u + lane_unit`, `unit_${n}`)
  })
  const [ms, ns] = [range(SIDE / M), range(SIDE / N)]
  const multiply = range((8 * units) / K)
    .map(
      (d) => `\
{
  ${indent(ms.map((m) => `let q_${m} = ${dialect.load('Left', 'row_major', left, M * m * pitch + (d * K) / 8, pitch)};`).join('\n'), 2)}
  ${indent(
    ns
      .map(
        (n) => `\
{
  let keys = ${dialect.load('Right', 'col_major', right, N * n * pitch + (d * K) / 8, pitch)};
  ${indent(ms.map((m) => dialect.multiplyAccumulate(`sum_${m}_${n}`, `q_${m}`, 'keys')).join('\n'), 2)}
}`,
      )
      .join('\n'),
    2,
  )}
}`,
    )
    .join('\n')

  return {
    rows,
    columns,
    workgroupSize,
    workgroupBytes: dialect.bytes(tiles),
    memory: `\
const LANES = ${LANES}u; // of a subgroup

${dialect.declare(tiles, `${SIDE} rows of q or k each, of head_dim ${8 * units} halves; then f32 cells`)}`,
    declare: `\
let lane_unit = local % ${units}u;
${each((n) => `let row_${n} = (local + ${n * workgroupSize}u) / ${units}u - ${firstOf[nameOf(n)]}u;\n${source.declare(nameOf(n), n)}\nvar unit_${n}: vec4<u32>;`)}
${ms.flatMap((m) => ns.map((n) => `var sum_${m}_${n} = Result();`)).join('\n')}`,
    loop: (step, last) => `\
${fetch}
loop {
  ${indent(put, 2)}
  workgroupBarrier();
  ${indent(step, 2)}
  let done = ${last};
  if (!done) {
    ${indent(fetch, 4)}
  }
  ${indent(multiply, 2)}
  if (done) { break; }
  workgroupBarrier();
}`,
    store: (statement) => `\
let lane_of_patch = local % LANES;
${range(SIDE / PATCH)
  .flatMap((i) =>
    range(SIDE / PATCH).map(
      (j) => `\
workgroupBarrier();
${range(PATCH / M)
  .flatMap((m) =>
    range(PATCH / N).map((n) =>
      dialect.store(
        tiles,
        M * m * patchPitch + (N * n) / 4,
        `sum_${(i * PATCH) / M + m}_${(j * PATCH) / N + n}`,
        patchPitch,
      ),
    ),
  )
  .join('\n')}
workgroupBarrier();
{
  let row = local / LANES / ${subgroupColumns}u * ${SIDE}u + ${i * PATCH}u + lane_of_patch / 2u;
  let column = local / LANES % ${subgroupColumns}u * ${SIDE}u + ${j * PATCH}u + lane_of_patch % 2u * 8u;
  let a = ${dialect.readFloats(tiles, `lane_of_patch / 2u * ${patchPitch}u + lane_of_patch % 2u * 2u`)};
  let b = ${dialect.readFloats(tiles, `lane_of_patch / 2u * ${patchPitch}u + lane_of_patch % 2u * 2u + 1u`)};
  ${indent(statement({ column: j * PATCH }), 2)}
}`,
    ),
  )
  .join('\n')}`,
  }
}
