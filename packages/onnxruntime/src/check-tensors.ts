import { TensorProto_DataType as Type } from 'onnx-buf'
import { invalidFile } from './errors.js'
import type { TensorProto } from './onnx.js'

type Field = 'floatData' | 'int32Data' | 'int64Data' | 'doubleData' | 'uint64Data' | 'stringData'

/** Bits of one element, and the field that holds elements when `raw_data` is not used. */
const layouts: Readonly<Record<number, readonly [bits: number, field: Field]>> = {
  [Type.FLOAT]: [32, 'floatData'],
  [Type.UINT8]: [8, 'int32Data'],
  [Type.INT8]: [8, 'int32Data'],
  [Type.UINT16]: [16, 'int32Data'],
  [Type.INT16]: [16, 'int32Data'],
  [Type.INT32]: [32, 'int32Data'],
  [Type.INT64]: [64, 'int64Data'],
  [Type.STRING]: [0, 'stringData'],
  [Type.BOOL]: [8, 'int32Data'],
  [Type.FLOAT16]: [16, 'int32Data'],
  [Type.DOUBLE]: [64, 'doubleData'],
  [Type.UINT32]: [32, 'uint64Data'],
  [Type.UINT64]: [64, 'uint64Data'],
  [Type.COMPLEX64]: [64, 'floatData'],
  [Type.COMPLEX128]: [128, 'doubleData'],
  [Type.BFLOAT16]: [16, 'int32Data'],
  [Type.FLOAT8E4M3FN]: [8, 'int32Data'],
  [Type.FLOAT8E4M3FNUZ]: [8, 'int32Data'],
  [Type.FLOAT8E5M2]: [8, 'int32Data'],
  [Type.FLOAT8E5M2FNUZ]: [8, 'int32Data'],
  [Type.FLOAT8E8M0]: [8, 'int32Data'],
  [Type.UINT4]: [4, 'int32Data'],
  [Type.INT4]: [4, 'int32Data'],
  [Type.FLOAT4E2M1]: [4, 'int32Data'],
  [Type.UINT2]: [2, 'int32Data'],
  [Type.INT2]: [2, 'int32Data'],
}

/**
 * Checks that a tensor has a known type and sane dims.
 *
 * @throws INVALID_FILE
 */
function layoutOf(tensor: TensorProto, where: string): { bits: number; field: Field; elements: number } {
  const layout = layouts[tensor.dataType]
  if (!layout) throw invalidFile(`${where} has the unknown data type ${tensor.dataType}.`, where)
  const count = tensor.dims.reduce((product, dim) => product * dim, 1n)
  if (tensor.dims.some((dim) => dim < 0n) || count > 2n ** 40n) {
    throw invalidFile(`${where} has the dims [${tensor.dims}].`, where)
  }
  const [bits, field] = layout
  return { bits, field, elements: Number(count) }
}

/**
 * The bytes that a tensor takes where it is stored in one piece.
 *
 * @throws INVALID_FILE; also for strings, which never are
 */
export function bytesOfTensor(tensor: TensorProto, where: string): number {
  const { bits, field, elements } = layoutOf(tensor, where)
  if (field === 'stringData') throw invalidFile(`${where} holds strings outside the model.`, where)
  return Math.ceil((elements * bits) / 8)
}

/**
 * Checks that a tensor stored in the file has a known type, sane dims and exactly the bytes that they ask for.
 *
 * @param where what holds it, for the error: `initializer 'w'` or `attribute 'value' of node 'c'`
 * @throws INVALID_FILE
 */
export function checkTensor(tensor: TensorProto, where: string): void {
  const { bits, field, elements } = layoutOf(tensor, where)
  if (tensor.rawData.length > 0) {
    const bytes = Math.ceil((elements * bits) / 8)
    if (field !== 'stringData' && tensor.rawData.length === bytes) return
    throw invalidFile(
      `${where} with dims [${tensor.dims}] needs ${bytes} bytes, the file has ${tensor.rawData.length}.`,
      where,
    )
  }
  const stored = tensor[field].length
  // Complex numbers take two entries; types below a byte are packed into bytes, one an entry.
  const complex = tensor.dataType === Type.COMPLEX64 || tensor.dataType === Type.COMPLEX128
  const needed = complex ? 2 * elements : bits > 0 && bits < 8 ? Math.ceil((elements * bits) / 8) : elements
  if (stored !== needed) {
    throw invalidFile(`${where} with dims [${tensor.dims}] needs ${needed} entries, the file has ${stored}.`, where)
  }
}
