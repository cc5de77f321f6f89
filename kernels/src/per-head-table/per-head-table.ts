import { type BufferSlice, type OptionValue, type Runtime, SparseAttentionError } from '@sparse-attention/core'

/** An option that may differ by layer and head, on the GPU. */
export interface PerHeadTable {
  /** f32 [layers · Hq] */
  readonly slice: BufferSlice
  /** Smallest and largest value in the table. */
  readonly min: number
  readonly max: number
  /** @throws INVALID_ARGUMENT for a layer that the table does not have */
  layer(layer: number | undefined): number
  dispose(): void
}

/**
 * Uploads a number for all heads, or a table [layer][head].
 *
 * @throws INVALID_OPTION when the table's rows are not `queryHeads` long
 */
export function perHeadTable(runtime: Runtime, name: string, value: OptionValue, queryHeads: number): PerHeadTable {
  const rows = Array.isArray(value) ? (value as number[][]) : [new Array<number>(queryHeads).fill(value as number)]
  if (rows.some((row) => row.length !== queryHeads)) {
    throw new SparseAttentionError('INVALID_OPTION', {
      message: `Option '${name}' has rows of ${rows[0]!.length} heads, the attention has ${queryHeads}.`,
      fix: 'Give one number per query head in every row.',
      where: name,
    })
  }
  const values = rows.flat()
  const tensor = runtime.tensor('f32', [values.length], Float32Array.from(values))
  return {
    slice: { buffer: tensor.buffer, offsetBytes: 0, sizeBytes: tensor.buffer.size },
    // Not spread into one call: a table may have more numbers than a call takes arguments.
    min: values.reduce((least, value) => Math.min(least, value)),
    max: values.reduce((most, value) => Math.max(most, value)),
    layer(layer = 0) {
      if (!Array.isArray(value)) return 0
      if (!Number.isSafeInteger(layer) || layer < 0 || layer >= rows.length) {
        throw new SparseAttentionError('INVALID_ARGUMENT', {
          message: `context.layer is ${layer}, option '${name}' has ${rows.length} layers.`,
          fix: `Pass a layer from 0 to ${rows.length - 1}, or a table with more rows.`,
          where: 'context.layer',
        })
      }
      return layer
    },
    dispose: () => tensor.dispose(),
  }
}

/** Tables of several options, all of them or none. @throws as `perHeadTable` */
export function perHeadTables<Name extends string>(
  runtime: Runtime,
  options: Readonly<Record<Name, OptionValue>>,
  queryHeads: number,
): Record<Name, PerHeadTable> {
  const tables: Partial<Record<Name, PerHeadTable>> = {}
  try {
    for (const name of Object.keys(options) as Name[]) {
      tables[name] = perHeadTable(runtime, name, options[name], queryHeads)
    }
    return tables as Record<Name, PerHeadTable>
  } catch (error) {
    for (const table of Object.values<PerHeadTable | undefined>(tables)) table?.dispose()
    throw error
  }
}
