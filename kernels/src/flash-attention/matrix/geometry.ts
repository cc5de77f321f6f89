import type { DType } from '@sparse-attention/core'
import type { MatrixDialect, MatrixMemory } from '../../shared/subgroup-matrix.js'

/** Keys of a tile: one or two subgroup matrices wide and deep. */
export const TILE_KEYS = 16

/** Lanes of a subgroup; the tier asks for adapters where every subgroup has so many. */
export const LANES = 32

/** How query rows are divided. */
export interface MatrixGeometry {
  /** Query rows of a workgroup. */
  readonly rows: 64 | 128 | 256
  /** Query rows of a subgroup: with 16, two lanes share the softmax of a row. */
  readonly subgroupRows: 16 | 32
  /**
   * Tiles of values in workgroup memory, beside one of keys. 2: V of the next tile is put down while that of the present one
   * is still needed, and weights lie apart from scores. That saves a barrier a tile, and takes memory. 0: V takes the place of
   * K. That costs a barrier a tile, and leaves memory for more workgroups. Default 1.
   */
  readonly valueTiles?: 0 | 1 | 2
}

/** Of one kernel, what follows from geometry, head_dim and the shape of matrices; pitches in units of 16 bytes. */
export interface MatrixLayout extends Required<MatrixGeometry> {
  readonly headDim: number
  readonly subgroups: number
  /** Lanes that share the softmax of a row. */
  readonly lanesPerRow: 1 | 2
  /** Units of a row of K or V. */
  readonly units: number
  /** From row to row of a K or V tile. Odd, so that eight rows lie in eight different groups of memory banks. */
  readonly tilePitch: number
  /** From row to row of the scores. Odd as well: 16 f32 and a gap. */
  readonly scorePitch: number
  /** vec4 of scores that a lane turns into weights. */
  readonly vectors: number
  /** From row to row of the weights. */
  readonly weightPitch: number
  /** Unit of a row where its weights begin: in place of scores, each lane's replace some that it has read itself. */
  readonly weightUnit: number
  readonly workgroupSize: number
  readonly keys: MatrixMemory
  readonly values: MatrixMemory
  /** Where the next tile's values go. */
  readonly nextValues: MatrixMemory
  /** Of each subgroup: f32 [row][key]. Rows of q and of the output pass through it. */
  readonly scores: MatrixMemory
  /** Of each subgroup: f16 [row][key]. The scores' own memory, unless there are two tiles of values. */
  readonly weights: MatrixMemory
  /** Expressions, atomic<u32>: bit k says that key k of the tile has values that are not finite, staged as 0. */
  readonly tainted: string
  readonly nextTainted: string
}

/** Head dimensions whose accumulators fit a subgroup's registers: multiples of 16 up to 256. */
export function hasMatrixKernel(dtype: DType, headDim: number): boolean {
  return dtype === 'f16' && headDim % 16 === 0 && headDim <= 256
}

/**
 * Geometries whose accumulators fit a lane's registers, the one with the most rows first; of those with equally many the
 * usual one first.
 *
 * 32 rows a subgroup use each fragment of K and V twice. Q and the accumulators of those take 3/2 · head_dim registers a
 * lane, of 255: eight subgroups share a multiprocessor, if their workgroups' memory lets them. That of 64 rows of more than 64
 * dimensions does where V takes the place of K. Two tiles of values of 128 dimensions leave no room for a second workgroup of
 * 128 rows beside the first.
 */
export function matrixGeometries(headDim: number): readonly MatrixGeometry[] {
  if (headDim > 128) {
    return [
      { rows: 128, subgroupRows: 16 },
      { rows: 64, subgroupRows: 16 },
    ]
  }
  const most = { rows: 256, subgroupRows: 32, valueTiles: 2 } as const
  if (headDim > 64) {
    return [
      most,
      { rows: 128, subgroupRows: 32 },
      { rows: 64, subgroupRows: 32, valueTiles: 0 },
      { rows: 64, subgroupRows: 16 },
    ]
  }
  return [
    most,
    { rows: 128, subgroupRows: 32, valueTiles: 2 },
    { rows: 128, subgroupRows: 32 },
    { rows: 64, subgroupRows: 32 },
  ]
}

export function matrixLayout(headDim: number, { rows, subgroupRows, valueTiles = 1 }: MatrixGeometry): MatrixLayout {
  const subgroups = rows / subgroupRows
  const lanesPerRow = subgroupRows === 32 ? 1 : 2
  const units = headDim / 8
  const tilePitch = units + 1
  const scorePitch = TILE_KEYS / 4 + 1
  const tile = { holds: ['f16'], units: TILE_KEYS * tilePitch } as const
  const keys = { name: valueTiles === 0 ? 'tile' : 'k_tile', ...tile }
  const values = valueTiles === 0 ? keys : { name: 'v_tile', ...tile }
  const scores: MatrixMemory = {
    name: 'scores',
    holds: ['f32', 'f16'],
    units: subgroupRows * scorePitch,
    copies: subgroups,
  }
  const apart = valueTiles === 2
  const weightPitch = apart ? TILE_KEYS / 8 + 1 : scorePitch
  return {
    rows,
    subgroupRows,
    valueTiles,
    headDim,
    subgroups,
    lanesPerRow,
    units,
    tilePitch,
    scorePitch,
    vectors: 4 / lanesPerRow,
    weightPitch,
    weightUnit: apart ? 0 : lanesPerRow - 1,
    workgroupSize: subgroups * LANES,
    keys,
    values: apart ? { ...values, copies: 2, copyOfSubgroup: 'stage' } : values,
    nextValues: apart ? { ...values, copies: 2, copyOfLane: '1u - stage' } : values,
    scores,
    tainted: apart ? 'flags[stage]' : 'flags[0]',
    nextTainted: apart ? 'flags[1u - stage]' : 'flags[0]',
    weights: apart ? { name: 'weights', holds: ['f16'], units: subgroupRows * weightPitch, copies: subgroups } : scores,
  }
}

/** What a kernel declares. */
export function matrixMemories({ keys, values, scores, weights }: MatrixLayout): readonly MatrixMemory[] {
  return [...new Set([keys, values, scores, weights])]
}

/** Workgroup memory of a kernel, without what its walk adds. */
export function workgroupBytes(dialect: MatrixDialect, layout: MatrixLayout): number {
  const flags = 16
  return matrixMemories(layout).reduce((sum, memory) => sum + dialect.bytes(memory), flags)
}
