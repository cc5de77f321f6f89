import { indent, range } from '../shared/wgsl.js'
import type { QuantizedScoresOptions } from './emit.js'

/** How a workgroup multiplies its query rows with packed keys, as WGSL. Queries lie in `queries`, vec4<f32> [row][VECTORS]. */
export interface Products {
  /** Module scope. */
  readonly declarations: string
  /** Bytes of workgroup memory in the declarations. */
  readonly bytes: number
  /** Statements by every invocation, between barriers, that bring the queries into the form that `multiply` takes. */
  readonly prepare: string
  /** Type of a row's sum. */
  readonly type: 'f32' | 'i32'
  /** Statements that add the products of word `from`, the `word`-th of those from `vector` on, to `sum0`, `sum1`, … */
  readonly multiply: (from: string, word: number) => string
  /** An expression: q · n of a row, from its sum. */
  readonly total: (row: number) => string
}

/** Queries as they are: keys are unpacked and multiplied in f32. */
export function exactProducts({ bits, rows }: QuantizedScoresOptions): Products {
  const perWord = 32 / bits
  const unpack = (from: string, i: number) => {
    const shifts = range(4).map((j) => `${(4 * i + j) * bits}u`)
    return `vec4<f32>((vec4<u32>(${from}) >> vec4<u32>(${shifts.join(', ')})) & vec4<u32>(${2 ** bits - 1}u))`
  }
  return {
    declarations: '',
    bytes: 0,
    prepare: '',
    type: 'f32',
    multiply: (from, word) =>
      range(perWord / 4)
        .map((i) => {
          const at = `vector + ${(word * perWord) / 4 + i}u`
          const sums = range(rows).map((r) => `sum${r} += dot(n, queries[${r}u * VECTORS + ${at}]);`)
          return `{\n  let n = ${unpack(from, i)};\n  ${sums.join('\n  ')}\n}`
        })
        .join('\n'),
    total: (row) => `sum${row}`,
  }
}

/**
 * Queries in signed 8 bits, a step of max|q| / 127 for each row: four products and their sum in one instruction on integers,
 * so exact from there on, with and without the built-in.
 */
export function packedProducts({ bits, rows, headDim, packedDot }: QuantizedScoresOptions): Products {
  const each = range(rows)
  /** The d-th of four elements that go into code i of a row: neighbours, or with 4 bits every other of eight. */
  const element = (d: number) => (bits === 8 ? `i * 4u + ${d}u` : `i / 2u * 8u + i % 2u + ${2 * d}u`)
  const query = (d: number) => `queries[(row * VECTORS * 4u + ${element(d)}) / 4u][(${element(d)}) % 4u]`
  const dot = packedDot
    ? 'fn dot4(a: u32, b: u32) -> i32 { return dot4I8Packed(a, b); }'
    : `\
fn dot4(a: u32, b: u32) -> i32 {
  // The shift of a signed integer keeps its sign.
  let x = vec4<i32>(bitcast<i32>(a << 24u), bitcast<i32>(a << 16u), bitcast<i32>(a << 8u), bitcast<i32>(a)) >> vec4<u32>(24u);
  let y = vec4<i32>(bitcast<i32>(b << 24u), bitcast<i32>(b << 16u), bitcast<i32>(b << 8u), bitcast<i32>(b)) >> vec4<u32>(24u);
  return x.x * y.x + x.y * y.y + x.z * y.z + x.w * y.w;
}`
  return {
    declarations: `\
const CODES = ${headDim / 4}u; // words of a row of query codes

var<workgroup> codes: array<u32, ${(rows * headDim) / 4}>; // four signed bytes, in the order of the keys' words
var<workgroup> steps: array<f32, ${rows}>;
var<workgroup> code_sums: array<i32, ${rows}>;

${dot}

// Signed bytes that a row's elements are rounded to, in units of its step.
fn code(value: f32, step: f32) -> i32 { return i32(clamp(round(value / step), -127.0, 127.0)); }`,
    bytes: rows * headDim + 8 * rows,
    prepare: `\
if (local < ${rows}u) {
  var largest = 0.0;
  for (var i = 0u; i < VECTORS; i++) {
    let size = abs(queries[local * VECTORS + i]);
    largest = max(largest, max(max(size.x, size.y), max(size.z, size.w)));
  }
  let step = max(largest, 1e-30) / 127.0;
  var sum = 0;
  for (var i = 0u; i < VECTORS; i++) {
    let value = queries[local * VECTORS + i];
    sum += code(value.x, step) + code(value.y, step) + code(value.z, step) + code(value.w, step);
  }
  steps[local] = step;
  code_sums[local] = sum;
}
workgroupBarrier();
for (var index = local; index < ${rows}u * CODES; index += 64u) {
  let row = index / CODES;
  let i = index % CODES;
  let n = vec4<i32>(${range(4)
    .map((d) => `code(${query(d)}, steps[row])`)
    .join(', ')});
  let bytes = bitcast<vec4<u32>>(n) & vec4<u32>(0xffu);
  codes[index] = bytes.x | (bytes.y << 8u) | (bytes.z << 16u) | (bytes.w << 24u);
}
workgroupBarrier();`,
    type: 'i32',
    multiply: (from, word) => {
      const at = (n: number) => `vector + ${n}u`
      // Keys are unsigned: 8 bits are made signed by taking 128 off, which \`total\` adds again.
      const parts =
        bits === 8
          ? [[`${from} ^ 0x80808080u`, at(word)] as const]
          : [
              [`${from} & 0x0f0f0f0fu`, at(2 * word)] as const,
              [`(${from} >> 4u) & 0x0f0f0f0fu`, at(2 * word + 1)] as const,
            ]
      return parts
        .map(([bytes, code]) => {
          const sums = each.map((r) => `sum${r} += dot4(codes[${r}u * CODES + ${code}], n);`)
          return `{\n  let n = ${bytes};\n  ${indent(sums.join('\n'), 2)}\n}`
        })
        .join('\n')
    },
    total: (row) => `steps[${row}u] * f32(sum${row}${bits === 8 ? ` + 128 * code_sums[${row}u]` : ''})`,
  }
}
