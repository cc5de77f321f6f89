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
}

/** Of one kernel, what follows from geometry, head_dim and the shape of matrices; pitches in units of 16 bytes. */
export interface MatrixLayout extends MatrixGeometry {
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
  /** Unit of a row of scores where its weights begin: each lane's replace scores that it has read itself. */
  readonly weightUnit: number
  readonly workgroupSize: number
  readonly keys: MatrixMemory
  readonly values: MatrixMemory
  /** Of each subgroup: f32 [row][key]; then f16 weights. */
  readonly scores: MatrixMemory
}

/** Head dimensions whose accumulators fit a subgroup's registers: multiples of 16 up to 256. */
export function hasMatrixKernel(dtype: DType, headDim: number): boolean {
  return dtype === 'f16' && headDim % 16 === 0 && headDim <= 256
}

/**
 * Geometries whose accumulators fit a lane's registers, the one with the most rows first.
 *
 * 32 rows a subgroup use each fragment of K and V twice. Q and the accumulators of those take 3/2 · head_dim registers a
 * lane, of 255. With half the subgroups instead of half their rows, fewer lanes stage K and V, which head_dim 128 cannot hide.
 */
export function matrixGeometries(headDim: number): readonly MatrixGeometry[] {
  if (headDim > 128) {
    return [
      { rows: 128, subgroupRows: 16 },
      { rows: 64, subgroupRows: 16 },
    ]
  }
  return [
    { rows: 256, subgroupRows: 32 },
    { rows: 128, subgroupRows: 32 },
    { rows: 64, subgroupRows: headDim <= 64 ? 32 : 16 },
  ]
}

export function matrixLayout(headDim: number, { rows, subgroupRows }: MatrixGeometry): MatrixLayout {
  const subgroups = rows / subgroupRows
  const lanesPerRow = subgroupRows === 32 ? 1 : 2
  const units = headDim / 8
  const tilePitch = units + 1
  const scorePitch = TILE_KEYS / 4 + 1
  const tile = { holds: ['f16'], units: TILE_KEYS * tilePitch } as const
  return {
    rows,
    subgroupRows,
    headDim,
    subgroups,
    lanesPerRow,
    units,
    tilePitch,
    scorePitch,
    vectors: 4 / lanesPerRow,
    weightUnit: lanesPerRow - 1,
    workgroupSize: subgroups * LANES,
    keys: { name: 'k_tile', ...tile },
    values: { name: 'v_tile', ...tile },
    scores: { name: 'scores', holds: ['f32', 'f16'], units: subgroupRows * scorePitch, copies: subgroups },
  }
}

/** Workgroup memory of a kernel, without what its walk adds. */
export function workgroupBytes(dialect: MatrixDialect, { keys, values, scores }: MatrixLayout): number {
  const flags = 8
  return [keys, values, scores].reduce((sum, memory) => sum + dialect.bytes(memory), flags)
}
