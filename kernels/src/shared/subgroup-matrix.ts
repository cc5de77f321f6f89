import type { SubgroupMatrix } from '@sparse-attention/core'

export type MatrixType = 'Left' | 'Right' | 'Result'

/** Memory that matrices are loaded from and stored to, counted in units of 16 bytes: 8 halves or 4 floats. */
export interface MatrixMemory {
  readonly name: string
  /** What it holds, at one time or another: halves as operands of products, floats as results. */
  readonly holds: readonly Component[]
  readonly units: number
  /** So many arrays. Absent: one. */
  readonly copies?: number
  /** The one of them that a subgroup loads and stores, and a lane writes and reads: expressions. Default: the subgroup's own. */
  readonly copyOfSubgroup?: string
  readonly copyOfLane?: string
}

type Component = 'f16' | 'f32'

/**
 * Subgroup matrices as WGSL, in the syntax and the shape that a device offers.
 *
 * The kernel declares `local`, its local_invocation_index, `LANES`, lanes of a subgroup, and `subgroup`, its subgroup_id. An
 * offset `at` and the pitch from row to row (of col_major: from column to column) are in units of 16 bytes. They are best
 * literals: then no bounds check has to change them. Variables in workgroup memory beside these must take multiples of 16
 * bytes: matrices are loaded from aligned places, and drivers put one variable behind the other.
 */
export interface MatrixDialect {
  readonly shape: Omit<SubgroupMatrix, 'syntax'>
  /** The first lines of a module. */
  readonly directives: string
  /** `Left` (M×K) and `Right` (K×N) of f16, `Result` (M×N) of f32. */
  readonly types: string
  /** Module scope: the memory's variables, and functions for `write…`. Workgroup memory. */
  declare(memory: MatrixMemory, comment?: string): string
  /** Of workgroup memory that `declare` takes. */
  bytes(memory: MatrixMemory): number
  /** A statement by one lane: eight halves, a vec4<u32>. */
  writeHalves(memory: MatrixMemory, at: string, halves: string): string
  /** A statement by one lane: four floats, a vec4<f32>. */
  writeFloats(memory: MatrixMemory, at: string, floats: string): string
  /** An expression of one lane: the vec4<f32> there. */
  readFloats(memory: MatrixMemory, at: string): string
  /** An expression of a subgroup: operands are of halves, results of floats. */
  load(type: MatrixType, order: 'row_major' | 'col_major', memory: MatrixMemory, at: number, pitch: number): string
  /** A statement of a subgroup, of a result. */
  store(memory: MatrixMemory, at: number, result: string, pitch: number): string
  /** A statement of a subgroup: into += left · right. */
  multiplyAccumulate(into: string, left: string, right: string): string
}

/** Components in a unit of 16 bytes. */
const perUnit: Readonly<Record<Component, number>> = { f16: 8, f32: 4 }

const componentOf = (type: MatrixType): Component => (type === 'Result' ? 'f32' : 'f16')

/** How a lane, and how a subgroup, names the array that is its own. */
const ofLane = ({ copies, copyOfLane = 'local / LANES' }: MatrixMemory, name: string) =>
  copies === undefined ? name : `${name}[${copyOfLane}]`
const ofSubgroup = ({ copies, copyOfSubgroup = 'subgroup' }: MatrixMemory, name: string) =>
  copies === undefined ? name : `${name}[${copyOfSubgroup}]`

const arrayType = ({ copies }: MatrixMemory, element: string, length: number) =>
  copies === undefined ? `array<${element}, ${length}>` : `array<array<${element}, ${length}>, ${copies}>`

export function matrixDialect({ syntax, ...shape }: SubgroupMatrix): MatrixDialect {
  const { M, N, K } = shape
  const common = {
    shape,
    types: `\
alias Left = subgroup_matrix_left<f16, ${K}, ${M}>;
alias Right = subgroup_matrix_right<f16, ${N}, ${K}>;
alias Result = subgroup_matrix_result<f32, ${N}, ${M}>;`,
    multiplyAccumulate: (into, left, right) =>
      `${into} = subgroupMatrixMultiplyAccumulate(${left}, ${right}, ${into});`,
  } satisfies Partial<MatrixDialect>
  return syntax === 'template' ? { ...common, ...template } : { ...common, ...argument }
}

const directives = `\
enable f16;
enable subgroups;
enable chromium_experimental_subgroup_matrix;`

type Syntax = Omit<MatrixDialect, 'shape' | 'types' | 'multiplyAccumulate'>

/** One array of `vec4<u32>` holds halves and floats: offsets and pitches count its elements. */
const template: Syntax = {
  directives,
  declare: (memory, comment) =>
    `var<workgroup> ${memory.name}: ${arrayType(memory, 'vec4<u32>', memory.units)};${comment ? ` // ${comment}` : ''}`,
  bytes: ({ units, copies = 1 }) => 16 * units * copies,
  writeHalves: (memory, at, halves) => `${ofLane(memory, memory.name)}[${at}] = ${halves};`,
  writeFloats: (memory, at, floats) => `${ofLane(memory, memory.name)}[${at}] = bitcast<vec4<u32>>(${floats});`,
  readFloats: (memory, at) => `bitcast<vec4<f32>>(${ofLane(memory, memory.name)}[${at}])`,
  load: (type, order, memory, at, pitch) =>
    `subgroupMatrixLoad<${type}, ${order}>(&${ofSubgroup(memory, memory.name)}, ${at}u, ${pitch}u)`,
  store: (memory, at, result, pitch) =>
    `subgroupMatrixStore<row_major>(&${ofSubgroup(memory, memory.name)}, ${at}u, ${result}, ${pitch}u);`,
}

/**
 * Matrices are in arrays of their own components, so that memory for both has two arrays, and lanes write and read them one
 * component at a time. Offsets and pitches count components.
 */
const argument: Syntax = {
  directives: `\
${directives}
diagnostic(off, chromium.subgroup_matrix_uniformity); // compilers of this syntax do not know that subgroup_id is uniform`,
  declare: (memory, comment) => {
    const { holds, units, copies } = memory
    const variables = holds.map(
      (component) =>
        `var<workgroup> ${arrayName(memory, component)}: ${arrayType(memory, component, perUnit[component] * units)};${comment ? ` // ${comment}` : ''}`,
    )
    const parameter = copies === undefined ? '' : 'copy: u32, '
    const own = (name: string) => (copies === undefined ? name : `${name}[copy]`)
    const functions = holds.map((component) => {
      const array = own(arrayName(memory, component))
      return component === 'f16'
        ? `\
fn write_${memory.name}_f16(${parameter}at: u32, halves: vec4<u32>) {
${['x', 'y', 'z', 'w']
  .map(
    (part, i) => `\
  let ${part} = bitcast<vec2<f16>>(halves.${part});
  ${array}[8u * at + ${2 * i}u] = ${part}.x;
  ${array}[8u * at + ${2 * i + 1}u] = ${part}.y;`,
  )
  .join('\n')}
}`
        : `\
fn write_${memory.name}_f32(${parameter}at: u32, floats: vec4<f32>) {
${['x', 'y', 'z', 'w'].map((part, i) => `  ${array}[4u * at + ${i}u] = floats.${part};`).join('\n')}
}

fn read_${memory.name}_f32(${parameter}at: u32) -> vec4<f32> {
  return vec4<f32>(${[0, 1, 2, 3].map((i) => `${array}[4u * at + ${i}u]`).join(', ')});
}`
    })
    return [variables.join('\n'), ...functions].join('\n\n')
  },
  bytes: ({ holds, units, copies = 1 }) => 16 * units * copies * holds.length,
  writeHalves: (memory, at, halves) => `write_${memory.name}_f16(${copyArgument(memory)}${at}, ${halves});`,
  writeFloats: (memory, at, floats) => `write_${memory.name}_f32(${copyArgument(memory)}${at}, ${floats});`,
  readFloats: (memory, at) => `read_${memory.name}_f32(${copyArgument(memory)}${at})`,
  load: (type, order, memory, at, pitch) => {
    const component = componentOf(type)
    const [offset, stride] = [at, pitch].map((units) => `${perUnit[component] * units}u`)
    const array = ofSubgroup(memory, arrayName(memory, component))
    return `subgroupMatrixLoad<${type}>(&${array}, ${offset}, ${order === 'col_major'}, ${stride})`
  },
  store: (memory, at, result, pitch) => {
    const array = ofSubgroup(memory, arrayName(memory, 'f32'))
    return `subgroupMatrixStore(&${array}, ${perUnit.f32 * at}u, ${result}, false, ${perUnit.f32 * pitch}u);`
  },
}

const arrayName = ({ name, holds }: MatrixMemory, component: Component) =>
  holds.length === 1 ? name : `${name}_${component}`

const copyArgument = ({ copies, copyOfLane = 'local / LANES' }: MatrixMemory) =>
  copies === undefined ? '' : `${copyOfLane}, `
