import { halvesToFloats } from '@sparse-attention/core'
import { DataType, type TensorProto } from './onnx.js'

/**
 * The numbers of a stored tensor; booleans as 0 and 1. Undefined for types that no mask, scale or shape has.
 *
 * The tensor has been checked: its bytes are as many as its dims ask for.
 */
export function tensorNumbers(tensor: TensorProto): ArrayLike<number> | undefined {
  const { rawData, dataType, floatData, int32Data, int64Data, doubleData } = tensor
  const raw = rawData.length > 0
  // A copy, so that the elements are aligned. (`slice` of a Buffer of Node would be none.)
  const buffer = () => new Uint8Array(rawData).buffer
  const toNumbers = (list: readonly bigint[] | BigInt64Array) => Array.from(list, Number)
  switch (dataType) {
    case DataType.FLOAT:
      return raw ? new Float32Array(buffer()) : floatData
    case DataType.FLOAT16:
      return halvesToFloats(raw ? new Uint16Array(buffer()) : Uint16Array.from(int32Data))
    case DataType.DOUBLE:
      return raw ? new Float64Array(buffer()) : doubleData
    case DataType.INT64:
      return toNumbers(raw ? new BigInt64Array(buffer()) : int64Data)
    case DataType.INT32:
      return raw ? new Int32Array(buffer()) : int32Data
    case DataType.BOOL:
    case DataType.UINT8:
      return raw ? rawData : int32Data
    default:
      return undefined
  }
}
