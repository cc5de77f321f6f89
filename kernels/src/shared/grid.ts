/**
 * Dispatches of any number of workgroups: a count above 65535, the limit of one axis, continues in y, and work too long for
 * one dispatch is cut into several.
 */

const AXIS = 65535

/** The fields that `workgroup_number` reads; a workgroup whose number is not below `end_workgroup` has nothing to do. */
export const gridUniforms = {
  first_workgroup: 'u32',
  end_workgroup: 'u32',
} as const

/** WGSL: the number of a workgroup among all of the work. Needs `u` with `gridUniforms`. */
export const workgroupNumberFunction: string = `\
fn workgroup_number(id: vec3<u32>) -> u32 {
  return u.first_workgroup + id.y * ${AXIS}u + id.x;
}`

export interface WorkgroupRange {
  readonly uniforms: { readonly first_workgroup: number; readonly end_workgroup: number }
  /** How many of all workgroups these are. */
  readonly count: number
  readonly workgroups: readonly [x: number, y: number, z: number]
}

/** Cuts `total` workgroups of `operationsEach` so that a dispatch stays below `operationsPerDispatch`, if one does. */
export function workgroupRanges(
  total: number,
  operationsEach: number,
  operationsPerDispatch: number,
): readonly WorkgroupRange[] {
  const most = Math.min(AXIS * AXIS, Math.max(1, Math.floor(operationsPerDispatch / Math.max(1, operationsEach))))
  const ranges: WorkgroupRange[] = []
  for (let first = 0; first < total; first += most) {
    const end = Math.min(first + most, total)
    const count = end - first
    ranges.push({
      uniforms: { first_workgroup: first, end_workgroup: end },
      count,
      workgroups: [Math.min(count, AXIS), Math.ceil(count / AXIS), 1],
    })
  }
  return ranges
}
