import type { DType } from '@sparse-attention/core'
import { elementsPerUnit } from '../shared/wgsl.js'

/** Invocations of a workgroup, and subgroups at most: what each found meets in workgroup memory. */
const LANES = 128
const SUBGROUPS = 8

/** Keys that a split has at least, so that it pays for its merge. */
export const MIN_SPAN = 64

/** How a workgroup is laid out. */
export interface SplitTiling {
  /** Invocations. */
  readonly lanes: number
  /** Lanes that share a key, neighbours on neighbouring 16-byte units. */
  readonly lanesPerKey: number
  /** 16-byte units of a row that a lane takes. */
  readonly unitsPerLane: number
  /** Keys that a lane loads before it uses the first. */
  readonly keysPerStep: number
  /** Query rows that a workgroup can take. */
  readonly maxRows: number
}

/** Numbers that a lane may hold of queries, and as many of outputs: with more, fewer workgroups reside on a multiprocessor. */
const ELEMENTS = 32

/** @param subgroupSize lanes that every subgroup has; absent: lanes add up through workgroup memory, and hold less */
export function splitTiling(dtype: DType, headDim: number, subgroupSize?: number): SplitTiling {
  const units = headDim / elementsPerUnit(dtype)
  const lanesPerKey = Math.min(2 ** Math.ceil(Math.log2(units)), subgroupSize ?? 32)
  const unitsPerLane = Math.ceil(units / lanesPerKey)
  if (subgroupSize === undefined) return { lanes: LANES, lanesPerKey, unitsPerLane, keysPerStep: 2, maxRows: 4 }
  const maxRows = Math.max(1, Math.min(8, Math.floor(ELEMENTS / unitsPerLane / elementsPerUnit(dtype))))
  const lanes = Math.min(LANES, SUBGROUPS * subgroupSize)
  return { lanes, lanesPerKey, unitsPerLane, keysPerStep: unitsPerLane > 2 ? 2 : 4, maxRows }
}
