/** Fields of a uniform block, all 4 bytes wide, in order. The WGSL struct and the packed words come from one list. */
export type UniformFields = Readonly<Record<string, 'u32' | 'i32' | 'f32'>>

export function uniformStruct(name: string, fields: UniformFields): string {
  const lines = Object.entries(fields).map(([field, type]) => `  ${field}: ${type},`)
  return `struct ${name} {\n${lines.join('\n')}\n}`
}

export function packUniforms<F extends UniformFields>(
  fields: F,
  values: { readonly [K in keyof F]: number },
): Uint32Array {
  const names = Object.keys(fields)
  const words = new Uint32Array(names.length)
  const ints = new Int32Array(words.buffer)
  const floats = new Float32Array(words.buffer)
  names.forEach((name, i) => {
    const target = { u32: words, i32: ints, f32: floats }[fields[name]!]
    target[i] = values[name]!
  })
  return words
}

/** Offset and strides of one [B, H, L, D] tensor, in 16-byte units. */
export function addressFields<P extends string>(
  prefix: P,
): Record<`${P}_offset` | `${P}_batch_stride` | `${P}_head_stride` | `${P}_row_stride`, 'u32'> {
  return {
    [`${prefix}_offset`]: 'u32',
    [`${prefix}_batch_stride`]: 'u32',
    [`${prefix}_head_stride`]: 'u32',
    [`${prefix}_row_stride`]: 'u32',
  } as ReturnType<typeof addressFields<P>>
}

export function addressValues<P extends string>(
  prefix: P,
  bound: { readonly offset: number; readonly strides: readonly [number, number, number] },
): Record<`${P}_offset` | `${P}_batch_stride` | `${P}_head_stride` | `${P}_row_stride`, number> {
  return {
    [`${prefix}_offset`]: bound.offset,
    [`${prefix}_batch_stride`]: bound.strides[0],
    [`${prefix}_head_stride`]: bound.strides[1],
    [`${prefix}_row_stride`]: bound.strides[2],
  } as ReturnType<typeof addressValues<P>>
}
