/** Workgroups for `count` items, `perWorkgroup` each, in rows of at most 65535. */
export function dispatchArgumentsReference(
  count: number,
  perWorkgroup: number,
  depth: number,
): [x: number, y: number, z: number] {
  const workgroups = Math.ceil(Math.max(count, 0) / perWorkgroup)
  return [Math.min(workgroups, 65535), Math.ceil(workgroups / 65535), depth]
}
