import type { DType, KernelSource } from '@sparse-attention/core'
import { pageTableFunctions, pageTableUniforms } from '../shared/pages.js'
import { addressFields, uniformStruct } from '../shared/uniforms.js'
import { elementsPerUnit, range } from '../shared/wgsl.js'

export interface PageBoundsOptions {
  readonly dtype: DType
  /** Multiple of 8, at most 256. */
  readonly headDim: number
  /** Where keys lie: in pages, or in a tensor. */
  readonly source: 'pages' | 'tensor'
}

export const pageBoundsUniforms = {
  ...pageTableUniforms,
  ...addressFields('k'),
  /** Last tokens of a sequence whose pages are bounded. */
  rows: 'u32',
  first_sequence: 'u32',
} as const

/** Bits of one element of a dtype, as u32 that order as the numbers do. */
const bits = {
  f32: { sign: '0x80000000u', all: '0xffffffffu', low: '0x007fffffu', high: '0xff800000u', nan: '0x7fc00000u' },
  f16: { sign: '0x8000u', all: '0xffffu', low: '0x03ffu', high: '0xfc00u', nan: '0x7e00u' },
} as const

/** Minima and maxima of each channel over the keys of a page: one workgroup a page and KV head. */
export function emitPageBounds({ dtype, headDim, source }: PageBoundsOptions): KernelSource {
  const units = headDim / elementsPerUnit(dtype)
  const vectors = range(elementsPerUnit(dtype) / 4)
  const { sign, all, low, high, nan } = bits[dtype]
  const each = (separator: string, line: (i: number) => string) => vectors.map(line).join(separator)
  const unpack =
    dtype === 'f32'
      ? 'let bits0 = unit;'
      : `let bits0 = vec4<u32>(unit.x & 0xffffu, unit.x >> 16u, unit.y & 0xffffu, unit.y >> 16u);
      let bits1 = vec4<u32>(unit.z & 0xffffu, unit.z >> 16u, unit.w & 0xffffu, unit.w >> 16u);`
  const pack = (name: string) =>
    dtype === 'f32'
      ? `${name}0`
      : `vec4<u32>(${[0, 1].map((i) => `${name}${i}.x | (${name}${i}.y << 16u), ${name}${i}.z | (${name}${i}.w << 16u)`).join(', ')})`
  const slots = 2 * vectors.length
  const code = `\
// bounds[h, page] = the minima, then the maxima, per channel, of the keys that the page holds (Quest, arXiv 2406.10774, §3.3): for
// the pages of the last rows tokens of each sequence. A NaN makes both of its channel NaN.
//
// Axes: k ${source === 'pages' ? `[Hkv, pages, page_size, D]` : '[B, Hkv, Lk, D], strided'}; bounds [Hkv, pages, 2, D], ${dtype} both.
//
// One workgroup of 64 a page (page, KV head, sequence): PARTS keys at a time, 16 bytes an invocation, then the parts combined.
// Numbers are compared as integers of the same order, so that NaN and infinity need no trust in the compiler.
${uniformStruct('Uniforms', pageBoundsUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> table: array<u32>;
@group(0) @binding(2) var<storage, read> k: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> bounds: array<vec4<u32>>;

const UNITS = ${units}u; // of 16 bytes in a row
const PARTS = ${Math.floor(64 / units)}u;

var<workgroup> partial: array<vec4<u32>, ${64 * slots}>;

${pageTableFunctions}

fn key_of(bits: vec4<u32>) -> vec4<u32> {
  return select(bits | vec4<u32>(${sign}), ~bits & vec4<u32>(${all}), bits >= vec4<u32>(${sign}));
}

fn bits_of(key: vec4<u32>, low: vec4<u32>, high: vec4<u32>) -> vec4<u32> {
  let bits = select(~key & vec4<u32>(${all}), key & vec4<u32>(${all} ^ ${sign}), key >= vec4<u32>(${sign}));
  let poisoned = (low < vec4<u32>(${low})) | (high > vec4<u32>(${high}));
  return select(bits, vec4<u32>(${nan}), poisoned);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let sequence = u.first_sequence + workgroup.z;
  let keys = key_count(sequence);
  let n = (keys - min(u.rows, keys)) / u.page_size + workgroup.x;
  if (n * u.page_size >= keys) { return; }
  let page = workgroup.y * u.pool_pages + page_of(sequence, n);
  let rows = min(keys - n * u.page_size, u.page_size);
  ${
    source === 'pages'
      ? 'let first = page * u.page_size * UNITS + local % UNITS;\n  let stride = UNITS;'
      : 'let first = u.k_offset + sequence * u.k_batch_stride + workgroup.y * u.k_head_stride + n * u.page_size * u.k_row_stride + local % UNITS;\n  let stride = u.k_row_stride;'
  }
  ${each(' ', (i) => `var low${i} = vec4<u32>(0xffffffffu); var high${i} = vec4<u32>();`)}
  if (local < UNITS * PARTS) {
    for (var row = local / UNITS; row < rows; row += PARTS) {
      let unit = k[first + row * stride];
      ${unpack}
      ${each('\n      ', (i) => `low${i} = min(low${i}, key_of(bits${i})); high${i} = max(high${i}, key_of(bits${i}));`)}
    }
  }
  ${each('\n  ', (i) => `partial[local * ${slots}u + ${2 * i}u] = low${i}; partial[local * ${slots}u + ${2 * i + 1}u] = high${i};`)}
  workgroupBarrier();
  if (local >= UNITS) { return; }
  for (var part = 1u; part < PARTS; part++) {
    let at = (part * UNITS + local) * ${slots}u;
    ${each('\n    ', (i) => `low${i} = min(low${i}, partial[at + ${2 * i}u]); high${i} = max(high${i}, partial[at + ${2 * i + 1}u]);`)}
  }
  ${each('\n  ', (i) => `let least${i} = bits_of(low${i}, low${i}, high${i}); let most${i} = bits_of(high${i}, low${i}, high${i});`)}
  bounds[(page * 2u) * UNITS + local] = ${pack('least')};
  bounds[(page * 2u + 1u) * UNITS + local] = ${pack('most')};
}
`
  return {
    label: `page-bounds-${source}`,
    code,
    bindings: ['uniform', 'read', 'read', 'read_write'],
    workgroupSize: 64,
    workgroupBytes: 64 * slots * 16,
  }
}
