import type { DType, KernelSource, Runtime, SubgroupMatrix } from '@sparse-attention/core'
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
  /** `statement` for each patch of 16 × 16 cells of a subgroup, row by row, from left to right. Needs uniform control flow. */
  store(statement: (patch: Patch) => string): string
}

/** Cells that a subgroup looks at, in statements of its lanes: `patch_row` and `patch_column` are the first in the tile. */
export interface Patch {
  /** Of the subgroup's own columns, the patch's first. */
  readonly column: number
  /** Four cells of a row of the patch, a vec4<f32>: `quarter` 0 to 3 of its columns. */
  cells(row: string, quarter: string): string
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

  const cells: Patch['cells'] = (row, quarter) => dialect.readFloats(tiles, `(${row}) * ${patchPitch}u + ${quarter}`)
  const storePatch = (i: number, j: number, statement: (patch: Patch) => string) => {
    const stores = range(PATCH / M).flatMap((m) =>
      range(PATCH / N).map((n) => {
        const sum = `sum_${(i * PATCH) / M + m}_${(j * PATCH) / N + n}`
        return dialect.store(tiles, M * m * patchPitch + (N * n) / 4, sum, patchPitch)
      }),
    )
    return `\
workgroupBarrier();
${stores.join('\n')}
workgroupBarrier();
{
  let patch_row = first_patch_row + ${i * PATCH}u;
  let patch_column = first_patch_column + ${j * PATCH}u;
  ${indent(statement({ column: j * PATCH, cells }), 2)}
}`
  }

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
let lane = local % LANES;
let first_patch_row = local / LANES / ${subgroupColumns}u * ${SIDE}u;
let first_patch_column = local / LANES % ${subgroupColumns}u * ${SIDE}u;
${range(SIDE / PATCH)
  .flatMap((i) => range(SIDE / PATCH).map((j) => storePatch(i, j, statement)))
  .join('\n')}`,
  }
}

/**
 * The kernel with as much of head_dim at once as workgroup memory has room for; undefined off the tier matrix, for f32, for a
 * head_dim that 16 does not divide, and where none fits.
 */
export function fittingProduct(
  runtime: Runtime,
  { dtype, headDim }: { readonly dtype: DType; readonly headDim: number },
  emit: (form: { readonly subgroupMatrix: SubgroupMatrix; readonly units: 2 | 4 }) => KernelSource,
): KernelSource | undefined {
  const { subgroupMatrix, tier } = runtime
  if (tier !== 'matrix' || !subgroupMatrix || dtype !== 'f16') return undefined
  return ([4, 2] as const)
    .filter((units) => headDim % (8 * units) === 0)
    .map((units) => emit({ subgroupMatrix, units }))
    .find(({ workgroupBytes }) => workgroupBytes <= runtime.device.limits.maxComputeWorkgroupStorageSize)
}
