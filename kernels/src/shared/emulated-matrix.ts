import { createRuntime, type Kernel, type KernelSource, Runtime, type SubgroupMatrix } from '@sparse-attention/core'
import type { MatrixType } from './subgroup-matrix.js'

/**
 * Runs kernels with subgroup matrices on adapters that have none, for tests: their WGSL is rewritten to plain WGSL, in which
 * 32 invocations in a row are a subgroup. Every matrix access and product of the text stays, in its order.
 *
 * A lane holds one row of a left matrix, some columns of a right one, and of a result what those two give: columns
 * `lane % (32 / M)` · M · N / 32 and following of row lane / (32 / M). A matrix is the index in `matrix_elements` of what the
 * lane holds of it: as arrays that calls take and return, matrices would take a minute to compile.
 */
export function emulateMatrices(source: KernelSource): KernelSource {
  if (!source.code.includes('chromium_experimental_subgroup_matrix')) return source
  const shape = shapeOf(source.code)
  const memories = memoriesOf(source.code)
  const functions = new Map<string, string>()
  const slots = new Map<string, number>()
  let elements = 0

  /** Where a variable's elements are. Those of one name are never alive at the same time. */
  const slot = (name: string, type: MatrixType) => {
    if (!slots.has(name)) {
      slots.set(name, elements)
      elements += elementsOfLane(type, shape)
    }
    return `${slots.get(name)}u`
  }
  /** A call that does what the built-in one does; its function is written when first needed. */
  const access = (what: Access, order: string, matrix: string, [memory, copy, at, pitch]: (string | undefined)[]) => {
    const name = `${what.toLowerCase()}_${order}_${memory}`
    functions.set(name, accessFunction(name, what, order, memories.get(memory!)!, shape))
    return `${name}(${slot(matrix, what === 'Store' ? 'Result' : what)}, ${copy ?? '0u'}, ${at}, ${pitch});`
  }
  const majorness = (transposed: string) => (transposed === 'true' ? 'col_major' : 'row_major')

  const body = source.code
    .replace(/^enable (f16|chromium_experimental_subgroup_matrix);\n|^diagnostic\(.*\n/gm, '')
    .replace(/^alias (Left|Right|Result) = .*\n/gm, '')
    .replace(/^ *@builtin\(subgroup_id\) subgroup: u32,\n/gm, '')
    .replace(/^fn main\([^{]*\{\n/m, '$&  matrix_lane = local % 32u;\n  let subgroup = local / 32u;\n')
    .replace(/var (\w+) = Result\(\);/g, (_, name) => `clear(${slot(name, 'Result')});`)
    .replace(
      /(?:let )?(\w+) = subgroupMatrixLoad<(\w+), (\w+)>\(&(\w+)(?:\[([^\]]*)\])?, (\w+), (\w+)\);/g,
      (_, matrix, type, order, ...place) => access(type, order, matrix, place),
    )
    .replace(
      /(?:let )?(\w+) = subgroupMatrixLoad<(\w+)>\(&(\w+)(?:\[([^\]]*)\])?, (\w+), (\w+), (\w+)\);/g,
      (_, matrix, type, memory, copy, at, transposed, pitch) =>
        access(type, majorness(transposed), matrix, [memory, copy, at, pitch]),
    )
    .replace(
      /subgroupMatrixStore<(\w+)>\(&(\w+)(?:\[([^\]]*)\])?, (\w+), (\w+), (\w+)\);/g,
      (_, order, memory, copy, at, matrix, pitch) => access('Store', order, matrix, [memory, copy, at, pitch]),
    )
    .replace(
      /subgroupMatrixStore\(&(\w+)(?:\[([^\]]*)\])?, (\w+), (\w+), (\w+), (\w+)\);/g,
      (_, memory, copy, at, matrix, transposed, pitch) =>
        access('Store', majorness(transposed), matrix, [memory, copy, at, pitch]),
    )
    .replace(
      /(\w+) = subgroupMatrixMultiplyAccumulate\((\w+), (\w+), \1\);/g,
      (_, into, left, right) =>
        `multiply_accumulate(${slot(into, 'Result')}, ${slot(left, 'Left')}, ${slot(right, 'Right')});`,
    )
    // Halves in memory of their own type: two in a u32.
    .replace(/(^var<workgroup> .*)array<f16, (\d+)>/gm, (_, before, length) => `${before}array<u32, ${length / 2}>`)
    .replaceAll('bitcast<vec2<f16>>', 'unpack2x16float')
    .replace(/(\w+(?:\[copy\])?)\[(8u \* at \+ \d+u)\] = (\w\.\w);/g, 'write_half(&$1[($2) / 2u], ($2) % 2u, $3);')
  const left = body.match(/.*subgroupMatrix[LSM].*/)
  if (left) throw new Error(`Not emulated: ${left[0]}`)
  return { ...source, code: [body, declarations(shape, elements), ...functions.values()].join('\n') }
}

type Shape = Omit<SubgroupMatrix, 'syntax'>
type Access = MatrixType | 'Store'

/** An array in workgroup memory, or several. */
interface Memory {
  readonly name: string
  readonly nested: boolean
  readonly element: 'vec4<u32>' | 'f16' | 'f32'
}

function shapeOf(code: string): Shape {
  const [, K, M] = code.match(/^alias Left = subgroup_matrix_left<f16, (\d+), (\d+)>;/m)!
  const [, N] = code.match(/^alias Right = subgroup_matrix_right<f16, (\d+), \d+>;/m)!
  return { M: Number(M), N: Number(N), K: Number(K) }
}

function memoriesOf(code: string): Map<string, Memory> {
  const declared = code.matchAll(/^var<workgroup> (\w+): (array<)?array<(vec4<u32>|f16|f32), \d+>/gm)
  return new Map(
    [...declared].map(([, name, outer, element]) => [
      name!,
      { name: name!, nested: outer !== undefined, element: element as Memory['element'] },
    ]),
  )
}

/** Columns of a right matrix and of a result that a lane holds. */
const columnsOfLane = ({ M, N }: Shape) => (M * N) / 32

function elementsOfLane(type: MatrixType, shape: Shape): number {
  const columns = columnsOfLane(shape)
  return { Left: shape.K, Right: shape.K * columns, Result: columns }[type]
}

function declarations(shape: Shape, elements: number): string {
  const columns = columnsOfLane(shape)
  return `
var<private> matrix_lane: u32;
var<private> matrix_elements: array<f32, ${elements}>;

fn clear(result: u32) {
  for (var i = 0u; i < ${columns}u; i++) { matrix_elements[result + i] = 0.0; }
}

fn multiply_accumulate(result: u32, left: u32, right: u32) {
  for (var i = 0u; i < ${columns}u; i++) {
    var sum = matrix_elements[result + i];
    for (var k = 0u; k < ${shape.K}u; k++) {
      sum += matrix_elements[left + k] * matrix_elements[right + k * ${columns}u + i];
    }
    matrix_elements[result + i] = sum;
  }
}

fn write_half(pair: ptr<workgroup, u32>, place: u32, value: f32) {
  *pair = insertBits(*pair, pack2x16float(vec2<f32>(value)), place * 16u, 16u);
}
`
}

/** A function that loads or stores what a lane holds of a matrix. */
function accessFunction(
  name: string,
  what: Access,
  order: string,
  { name: array, nested, element }: Memory,
  shape: Shape,
): string {
  const columns = columnsOfLane(shape)
  const own = nested ? `${array}[copy]` : array
  const halves = what === 'Left' || what === 'Right'
  // Offsets and pitches count elements of the array, which have so many components of the matrix.
  const components = element === 'vec4<u32>' ? (halves ? 8 : 4) : 1
  const word =
    element === 'vec4<u32>' ? `${own}[place / ${components}u][place % ${components}u / ${components / 4}u]` : ''
  const read =
    element === 'f32'
      ? `${own}[place]`
      : element === 'f16'
        ? `unpack2x16float(${own}[place / 2u])[place % 2u]`
        : halves
          ? `unpack2x16float(${word})[place % 2u]`
          : `bitcast<f32>(${word})`
  const write =
    element === 'f32'
      ? `${own}[place] = matrix_elements[matrix + i]`
      : `${word} = bitcast<u32>(matrix_elements[matrix + i])`
  const row = `matrix_lane / ${32 / shape.M}u`
  const firstColumn = `matrix_lane % ${32 / shape.M}u * ${columns}u`
  const [r, c] = {
    Left: [row, 'i'],
    Right: [`i / ${columns}u`, `${firstColumn} + i % ${columns}u`],
    Result: [row, `${firstColumn} + i`],
    Store: [row, `${firstColumn} + i`],
  }[what] as [string, string]
  const [line, inLine] = order === 'row_major' ? [r, c] : [c, r]
  return `
fn ${name}(matrix: u32, copy: u32, at: u32, pitch: u32) {
  for (var i = 0u; i < ${elementsOfLane(what === 'Store' ? 'Result' : what, shape)}u; i++) {
    let place = ${components}u * (at + pitch * (${line})) + ${inLine};
    ${what === 'Store' ? write : `matrix_elements[matrix + i] = ${read}`};
  }
}`
}

/** A runtime of the tier matrix on any adapter. Kernels of that tier without matrices may still need f16 and subgroups. */
class EmulatedMatrixRuntime extends Runtime {
  override readonly tier = 'matrix'
  override readonly subgroupMatrix: SubgroupMatrix
  readonly #base: Runtime

  constructor(base: Runtime, subgroupMatrix: SubgroupMatrix) {
    const { device, adapterInfo, software } = base
    super(device, { device, software, ...(adapterInfo && { adapterInfo }) })
    this.subgroupMatrix = subgroupMatrix
    this.#base = base
  }

  override kernel(source: KernelSource): Promise<Kernel> {
    return super.kernel(emulateMatrices(source))
  }

  override dispose(): void {
    super.dispose()
    this.#base.dispose()
  }
}

export async function emulatedMatrixRuntime(subgroupMatrix: SubgroupMatrix): Promise<Runtime> {
  return new EmulatedMatrixRuntime(await createRuntime(), subgroupMatrix)
}
