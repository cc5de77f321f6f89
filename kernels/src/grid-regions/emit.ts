import type { DType, KernelSource } from '@sparse-attention/core'
import { gridUniforms, workgroupNumberFunction } from '../shared/grid.js'
import { addressFields, type UniformFields, uniformStruct } from '../shared/uniforms.js'
import { elementsPerUnit, indent, range, unitType, unpackUnit } from '../shared/wgsl.js'

const regionUniforms = {
  height: 'u32',
  width: 'u32',
  region_height: 'u32',
  region_width: 'u32',
  cut_top: 'u32',
  cut_left: 'u32',
  /** Regions from left to right, and in all. */
  across: 'u32',
  regions: 'u32',
} as const

export const regionOrderUniforms = { ...gridUniforms, ...regionUniforms, copies: 'u32' } as const
export const regionSumsUniforms = {
  ...gridUniforms,
  ...regionUniforms,
  ...addressFields('x'),
  heads: 'u32',
  /** Of 16 bytes in a row. */
  units: 'u32',
} as const

/** `rectangle(row, column)`: top, bottom, left and right of a region. Needs `u` with the regions. */
const rectangleFunction = `\
fn rectangle(row: u32, column: u32) -> vec4<u32> {
  return vec4<u32>(
    max(row * u.region_height, u.cut_top) - u.cut_top,
    min((row + 1u) * u.region_height - u.cut_top, u.height),
    max(column * u.region_width, u.cut_left) - u.cut_left,
    min((column + 1u) * u.region_width - u.cut_left, u.width),
  );
}

// Tokens before a region: whole rows of the grid above it, and what is left of it in its own rows.
fn first_place(region: vec4<u32>) -> u32 {
  return region.x * u.width + (region.y - region.x) * region.z;
}`

export const ORDER_INVOCATIONS = 256

/** Writes the order of tokens by region, and where each region starts: closed forms, no sort. */
export function emitRegionOrder(): KernelSource {
  const code = `\
// The tokens of a grid, one region after another: order[copy, place] = token, and starts[copy, r] the first place of
// region r. The same for every copy, one for each batch entry and head of a plan.
//
// order i32 [copies, height · width]; starts i32 [copies, regions + 1].
//
// One invocation a token and copy, and one for the end of the starts.
${uniformStruct('Uniforms', regionOrderUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read_write> order: array<u32>;
@group(0) @binding(2) var<storage, read_write> starts: array<u32>;

${workgroupNumberFunction}

${rectangleFunction}

@compute @workgroup_size(${ORDER_INVOCATIONS})
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let number = workgroup_number(workgroup);
  let tokens = u.height * u.width;
  let item = number * ${ORDER_INVOCATIONS}u + local;
  let copy = item / (tokens + 1u);
  let token = item % (tokens + 1u);
  if (number >= u.end_workgroup || copy >= u.copies) { return; }
  if (token <= u.regions) {
    var start = tokens;
    if (token < u.regions) { start = first_place(rectangle(token / u.across, token % u.across)); }
    starts[copy * (u.regions + 1u) + token] = start;
  }
  if (token == tokens) { return; }
  let y = token / u.width;
  let x = token % u.width;
  let region = rectangle((y + u.cut_top) / u.region_height, (x + u.cut_left) / u.region_width);
  let place = first_place(region) + (y - region.x) * (region.w - region.z) + x - region.z;
  order[copy * tokens + place] = token;
}
`
  return {
    label: 'region-order',
    code,
    bindings: ['uniform', 'read_write', 'read_write'],
    workgroupSize: ORDER_INVOCATIONS,
    workgroupBytes: 0,
  }
}

const INVOCATIONS = 64

/** Sums of a tensor's rows over the regions of a grid: one workgroup a region and head. */
export function emitRegionSums({ dtype }: { dtype: DType }): KernelSource {
  const vectors = range(elementsPerUnit(dtype) / 4)
  const code = `\
// sums[b, h, r] = the sum of x over the tokens of region r, which are read where they lie.
//
// x [B, H, height · width, D] ${dtype}, strided; sums f32 [B, H, regions, D].
//
// One workgroup of ${INVOCATIONS} a region and head: as many tokens at a time as fit, 16 bytes an invocation, then these parts
// added in order. f32 sums.
${uniformStruct('Uniforms', regionSumsUniforms as UniformFields)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> x: array<${unitType(dtype)}>;
@group(0) @binding(2) var<storage, read_write> sums: array<vec4<f32>>;

var<workgroup> partial: array<vec4<f32>, ${INVOCATIONS * vectors.length}>;

${workgroupNumberFunction}

${rectangleFunction}

@compute @workgroup_size(${INVOCATIONS})
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let number = workgroup_number(workgroup);
  if (number >= u.end_workgroup) { return; }
  let parts = ${INVOCATIONS}u / u.units;
  let r = number % u.regions;
  let segment = number / u.regions;
  let region = rectangle(r / u.across, r % u.across);
  let columns = region.w - region.z;
  let tokens = (region.y - region.x) * columns;
  let first = u.x_offset + segment / u.heads * u.x_batch_stride + segment % u.heads * u.x_head_stride + local % u.units;
  ${vectors.map((i) => `var sum${i} = vec4<f32>();`).join(' ')}
  if (local < u.units * parts) {
    for (var place = local / u.units; place < tokens; place += parts) {
      let token = (region.x + place / columns) * u.width + region.z + place % columns;
      let unit = x[first + token * u.x_row_stride];
      ${vectors.map((i) => `var value${i}: vec4<f32>;`).join(' ')}
      ${indent(
        unpackUnit(
          dtype,
          'unit',
          vectors.map((i) => `value${i}`),
        ),
        6,
      )}
      ${vectors.map((i) => `sum${i} += value${i};`).join(' ')}
    }
  }
  ${vectors.map((i) => `partial[local * ${vectors.length}u + ${i}u] = sum${i};`).join('\n  ')}
  workgroupBarrier();
  if (local >= u.units) { return; }
  for (var part = 1u; part < parts; part++) {
    ${vectors.map((i) => `sum${i} += partial[(part * u.units + local) * ${vectors.length}u + ${i}u];`).join('\n    ')}
  }
  let out = (number * u.units + local) * ${vectors.length}u;
  ${vectors.map((i) => `sums[out + ${i}u] = sum${i};`).join('\n  ')}
}
`
  return {
    label: 'region-sums',
    code,
    bindings: ['uniform', 'read', 'read_write'],
    workgroupSize: INVOCATIONS,
    workgroupBytes: INVOCATIONS * vectors.length * 16,
  }
}
