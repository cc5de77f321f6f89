import { SparseAttentionError } from '@sparse-attention/core'
import { bitsPerElement, type HostTensor } from './dtypes.js'
import { byteLength } from './header.js'

/**
 * A safetensors file, in parts that follow each other.
 *
 * @throws INVALID_ARGUMENT when a tensor's bytes do not fit its dtype and shape
 */
export function encodeSafetensors(
  tensors: Readonly<Record<string, HostTensor>>,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array[] {
  // Widest elements first, as the format's own library writes them: every tensor is then aligned in the file.
  const entries = Object.entries(tensors).sort(
    ([a, { dtype: ofA }], [b, { dtype: ofB }]) => bitsPerElement[ofB] - bitsPerElement[ofA] || (a < b ? -1 : 1),
  )
  return [encodeHeader(entries, metadata), ...entries.map(([, { bytes }]) => bytes)]
}

function encodeHeader(
  entries: readonly (readonly [string, HostTensor])[],
  metadata: Readonly<Record<string, string>>,
): Uint8Array {
  const fields: [string, unknown][] = Object.keys(metadata).length > 0 ? [['__metadata__', metadata]] : []
  let offset = 0
  for (const [name, { dtype, shape, bytes }] of entries) {
    const expected = byteLength(dtype, shape)
    if (expected !== bytes.byteLength || name === '__metadata__') {
      throw new SparseAttentionError('INVALID_ARGUMENT', {
        message: `Tensor '${name}' has ${bytes.byteLength} bytes for shape [${shape}] of ${dtype}.`,
        fix: `Pass ${expected} bytes, under a name other than __metadata__.`,
        where: name,
      })
    }
    fields.push([name, { dtype, shape, data_offsets: [offset, offset + expected] }])
    offset += expected
  }
  const json = new TextEncoder().encode(JSON.stringify(Object.fromEntries(fields)))
  const padded = Math.ceil(json.length / 8) * 8
  const header = new Uint8Array(8 + padded).fill(0x20)
  new DataView(header.buffer).setBigUint64(0, BigInt(padded), true)
  header.set(json, 8)
  return header
}
