import { create } from '@bufbuild/protobuf'
import { ValueInfoProtoSchema } from 'onnx-buf'
import type { Piece } from './cut.js'
import type { Graph } from './graph.js'
import { type Dim, declaredTensor, makeValueInfo, modelLike, serializeModel } from './onnx.js'

/** What onnxruntime has to know of a value that is fed to a piece. */
export interface ValueType {
  readonly elemType: number
  /** Undefined: the rank is unknown. */
  readonly dims: readonly Dim[] | undefined
}

/**
 * A piece as an ONNX file.
 *
 * @param types of the values that earlier pieces and attentions provide; graph inputs are declared as in the file
 */
export function pieceModel(graph: Graph, piece: Piece, types: ReadonlyMap<string, ValueType>): Uint8Array {
  const input = piece.inputs.map((name) => {
    const declared = graph.inputs.get(name)
    if (declared) return declared
    const type = types.get(name)!
    return makeValueInfo(name, type.elemType, type.dims ?? declaredTensor(graph.declared.get(name))?.dims)
  })
  // onnxruntime infers the types of outputs.
  const output = piece.outputs.map((name) => create(ValueInfoProtoSchema, { name }))
  const { nodes, initializers } = piece
  return serializeModel(modelLike(graph.model, { input, output, node: [...nodes], initializer: [...initializers] }))
}
