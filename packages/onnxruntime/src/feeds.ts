import { type ErrorCode, SparseAttentionError } from '@sparse-attention/core'
import type { Tensor } from 'onnxruntime-web'
import { declaredTensor, tensorTypeOf, type ValueInfoProto } from './onnx.js'
import type { Provider } from './ort.js'

/**
 * Checks feeds against the graph's inputs.
 *
 * @throws INVALID_ARGUMENT, INVALID_DTYPE, INVALID_SHAPE naming the input
 */
export function checkFeeds(
  inputs: ReadonlyMap<string, ValueInfoProto>,
  feeds: Readonly<Record<string, Tensor>>,
  provider: Provider,
): void {
  const names = [...inputs.keys()]
  for (const name of Object.keys(feeds)) {
    if (inputs.has(name)) continue
    throw wrong('INVALID_ARGUMENT', name, `The model has no input '${name}'.`, `Its inputs are ${names.join(', ')}.`)
  }
  for (const [name, info] of inputs) {
    const tensor = feeds[name]
    if (!tensor) {
      throw wrong('INVALID_ARGUMENT', name, `The input '${name}' is not fed.`, `Feed each of ${names.join(', ')}.`)
    }
    const { elemType, dims } = declaredTensor(info)!
    const type = tensorTypeOf(elemType)
    if (type !== undefined && tensor.type !== type) {
      throw wrong('INVALID_DTYPE', name, `The input '${name}' is fed ${tensor.type}.`, `It takes ${type}.`)
    }
    const fits = dims?.every((dim, axis) => typeof dim !== 'number' || dim === tensor.dims[axis])
    if (dims && (dims.length !== tensor.dims.length || !fits)) {
      const wanted = dims.map((dim) => dim ?? '?').join(', ')
      throw wrong(
        'INVALID_SHAPE',
        name,
        `The input '${name}' is fed the shape [${tensor.dims}].`,
        `It takes [${wanted}].`,
      )
    }
    if (provider === 'wasm' && tensor.location !== 'cpu' && tensor.location !== 'cpu-pinned') {
      const fix = "Download it with getData() first, or load the model with provider: 'webgpu'."
      throw wrong('INVALID_ARGUMENT', name, `The input '${name}' lies on the GPU, but the pieces run on the CPU.`, fix)
    }
  }
}

/**
 * The outputs to return: those asked for, or all.
 *
 * @throws INVALID_ARGUMENT for a name that the graph does not have
 */
export function checkOutputs(all: readonly string[], requested: readonly string[] | undefined): readonly string[] {
  const unknown = requested?.find((name) => !all.includes(name))
  if (unknown === undefined) return requested ?? all
  throw wrong(
    'INVALID_ARGUMENT',
    'outputs',
    `The model has no output '${unknown}'.`,
    `Its outputs are ${all.join(', ')}.`,
  )
}

function wrong(code: ErrorCode, where: string, message: string, fix: string): SparseAttentionError {
  return new SparseAttentionError(code, { message, fix, where })
}
