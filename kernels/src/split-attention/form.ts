import { range } from '../shared/wgsl.js'

/** A place in an array or a loop: known when the code is written, or a variable of it. */
export type Index = number | string

/** An array of an invocation. */
export interface Cells {
  readonly declaration: string
  /** One index for each axis. */
  at(...indices: readonly Index[]): string
}

/** How code that does the same for several keys and rows is written. */
export interface Form {
  /** The statements of `body` for each index below `count`. */
  each(variable: string, count: number, body: (index: Index) => string): string
  /** An array of zeros. */
  cells(name: string, type: string, shape: readonly number[]): Cells
}

/** Loops over arrays: short to read and to compile. Some compilers keep arrays that loops index in memory. */
export const looped: Form = {
  each: (variable, count, body) =>
    `for (var ${variable} = 0u; ${variable} < ${count}u; ${variable}++) {\n${body(variable)}\n}`,
  cells: (name, type, shape) => ({
    declaration: `var ${name}: array<${type}, ${shape.reduce((product, size) => product * size, 1)}>;`,
    at: (...indices) => `${name}[${flat(indices, shape)}]`,
  }),
}

/** A copy of the statements for each index, a variable for each cell: what lies in registers is not left to the compiler. */
export const unrolled: Form = {
  each: (_, count, body) => range(count).map(body).join('\n'),
  cells: (name, type, shape) => ({
    declaration: places(shape)
      .map((indices) => `var ${[name, ...indices].join('_')} = ${type}();`)
      .join(' '),
    at: (...indices) => [name, ...indices].join('_'),
  }),
}

/** Row-major. */
function flat(indices: readonly Index[], shape: readonly number[]): string {
  let code = ''
  indices.forEach((index, axis) => {
    const term = typeof index === 'number' ? `${index}u` : index
    code = axis === 0 ? term : `(${code}) * ${shape[axis]}u + ${term}`
  })
  return code
}

function places(shape: readonly number[]): number[][] {
  return shape.reduce<number[][]>((all, size) => all.flatMap((place) => range(size).map((i) => [...place, i])), [[]])
}
