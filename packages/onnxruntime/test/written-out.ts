import type { NodeProto, TensorProto } from 'onnx-buf'
import { int64, model, node, type Parts, tensor, value } from './build.js'

/** How an attention is written out, in the ways of exporters. */
export interface WrittenOut {
  readonly queryHeads?: number
  readonly kvHeads?: number
  readonly headDim?: number
  /** Where √head_dim goes: after the product, or half of it on q and half on k. */
  readonly scale?: 'mul' | 'div' | 'both' | 'none'
  /** The constant of the scale. Default 1/√head_dim. */
  readonly factor?: number
  /** How keys are transposed: after the heads, in one with them, or fed as they are needed. */
  readonly key?: 'after' | 'at once' | 'fed'
  /** Nodes between scores and Softmax, from the value they read. */
  readonly mask?: (scores: string) => { readonly nodes: readonly NodeProto[]; readonly masked: string }
  readonly maskInputs?: Parts['input']
  readonly initializer?: readonly TensorProto[]
  readonly softmaxAxis?: number
  /** Where(IsNaN(p), 0, p) */
  readonly guard?: boolean
  readonly opset?: number
  readonly extra?: readonly NodeProto[]
  readonly outputs?: readonly string[]
}

/** q, k, v [batch, length, heads · head_dim] through one attention to y [batch, length, heads · head_dim]. */
export function writtenOut(form: WrittenOut = {}): Parts {
  const { queryHeads = 4, kvHeads = queryHeads, headDim = 8, scale = 'mul', key = 'after', opset = 18 } = form
  const group = queryHeads / kvHeads
  const factor = form.factor ?? 1 / Math.sqrt(headDim)
  const initializer = [
    int64('axis_2', [2]),
    int64('q_heads', [0, 0, queryHeads, headDim]),
    int64('kv_heads', [0, 0, kvHeads, headDim]),
    int64('merged', [0, 0, queryHeads * headDim]),
    number('factor', factor),
    number('divisor', 1 / factor),
    number('half', Math.sqrt(factor)),
    number('zero', 0),
    number('low', Number.NEGATIVE_INFINITY),
    ...(form.initializer ?? []),
  ]
  const nodes: NodeProto[] = []
  const add = (op: string, inputs: string[], output: string, attributes = {}) => {
    nodes.push(node(op, inputs, output, attributes))
    return output
  }
  const heads = (part: string, shape: string) => add('Reshape', [part, shape], `${part}_split`)
  const rows = (part: string, shape: string) =>
    add('Transpose', [heads(part, shape)], `${part}_rows`, { perm: [0, 2, 1, 3] })
  const repeated = (part: string, from: string) => {
    if (group === 1) return from
    // [batch, kvHeads, length, headDim] → a group of equal heads for each
    add('Shape', [from], `${part}_shape`)
    const slice = (start: number, name: string) => {
      initializer.push(int64(`${part}_${name}_at`, [start]))
      return add('Gather', [`${part}_shape`, `${part}_${name}_at`], `${part}_${name}`, { axis: 0n })
    }
    const [batch, length] = [slice(0, 'batch'), slice(2, 'length')]
    initializer.push(int64(`${part}_kv`, [kvHeads]), int64(`${part}_group`, [group]), int64(`${part}_dim`, [headDim]))
    initializer.push(int64(`${part}_all`, [queryHeads]))
    add('Concat', [batch, `${part}_kv`, `${part}_group`, length, `${part}_dim`], `${part}_five`, { axis: 0n })
    add('Concat', [batch, `${part}_all`, length, `${part}_dim`], `${part}_four`, { axis: 0n })
    add('Unsqueeze', [from, 'axis_2'], `${part}_alone`)
    add('Expand', [`${part}_alone`, `${part}_five`], `${part}_grouped`)
    return add('Reshape', [`${part}_grouped`, `${part}_four`], `${part}_repeated`)
  }
  let q = rows('q', 'q_heads')
  let k =
    key === 'fed'
      ? 'k'
      : key === 'at once'
        ? add('Transpose', [heads('k', 'kv_heads')], 'k_columns', { perm: [0, 2, 3, 1] })
        : add('Transpose', [repeated('k', rows('k', 'kv_heads'))], 'k_columns', { perm: [0, 1, 3, 2] })
  if (scale === 'both') {
    q = add('Mul', [q, 'half'], 'q_scaled')
    k = add('Mul', ['half', k], 'k_scaled')
  }
  let scores = add('MatMul', [q, k], 'scores')
  if (scale === 'mul') scores = add('Mul', [scores, 'factor'], 'scaled')
  if (scale === 'div') scores = add('Div', [scores, 'divisor'], 'scaled')
  const masked = form.mask?.(scores)
  nodes.push(...(masked?.nodes ?? []))
  let p = add('Softmax', [masked?.masked ?? scores], 'p', { axis: BigInt(form.softmaxAxis ?? -1) })
  if (form.guard) p = add('Where', [add('IsNaN', ['p'], 'nan'), 'zero', 'p'], 'guarded')
  add('MatMul', [p, repeated('v', rows('v', 'kv_heads'))], 'attended')
  add('Transpose', ['attended'], 'back', { perm: [0, 2, 1, 3] })
  add('Reshape', ['back', 'merged'], 'y')
  const width = kvHeads * headDim
  const fedKey = ['batch', kvHeads, headDim, 'keys']
  return {
    opset,
    input: [
      value('q', 'f32', ['batch', 'queries', queryHeads * headDim]),
      value('k', 'f32', key === 'fed' ? fedKey : ['batch', 'keys', width]),
      value('v', 'f32', ['batch', 'keys', width]),
      ...(form.maskInputs ?? []),
    ],
    output: ['y', ...(form.outputs ?? [])].map((name) => value(name, 'f32')),
    node: [...nodes, ...(form.extra ?? [])],
    initializer,
  }
}

export function number(name: string, x: number): TensorProto {
  return tensor(name, [], Float32Array.of(x))
}

export function writtenOutModel(form: WrittenOut = {}): Uint8Array {
  return model(writtenOut(form))
}
