import type { DType } from '@sparse-attention/core'

/** Rows, columns and depth of the subgroup matrices; also the keys of a tile. */
export const MATRIX = 16

/** Lanes of a subgroup; the tier asks for adapters where every subgroup has so many. */
export const LANES = 32

/** How a workgroup divides its rows; pitches in 16-byte units. */
export interface MatrixGeometry {
  readonly subgroups: number
  /** Row tiles of 16 that a subgroup owns. */
  readonly rowTiles: 1 | 2
  /** Lanes that share the softmax of a row. */
  readonly lanesPerRow: 1 | 2
  /** Depth tiles of 16: head_dim / 16. */
  readonly depthTiles: number
  /** 16-byte units of a row of K or V. */
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
  /** Without what a walk adds. */
  readonly workgroupBytes: number
}

/** Head dimensions whose accumulators fit a subgroup's registers: multiples of 16 up to 256. */
export function hasMatrixKernel(dtype: DType, headDim: number): boolean {
  return dtype === 'f16' && headDim % MATRIX === 0 && headDim <= 256
}

export function matrixGeometry(headDim: number, rows: 64 | 128): MatrixGeometry {
  // Two row tiles use each fragment of K and V twice. Q and the accumulators of two take 3/2 · head_dim registers a lane, of
  // 255; with half the subgroups instead of half the row tiles, fewer lanes stage K and V, which head_dim 128 cannot hide.
  const rowTiles = rows === 128 || headDim <= 64 ? 2 : 1
  const subgroups = rows / (MATRIX * rowTiles)
  const lanesPerRow = rowTiles === 2 ? 1 : 2
  const units = headDim / 8
  const tilePitch = units + 1
  const scorePitch = MATRIX / 4 + 1
  return {
    subgroups,
    rowTiles,
    lanesPerRow,
    depthTiles: headDim / MATRIX,
    units,
    tilePitch,
    scorePitch,
    vectors: 4 / lanesPerRow,
    weightUnit: lanesPerRow - 1,
    workgroupSize: subgroups * LANES,
    workgroupBytes: 16 * (2 * MATRIX * tilePitch + rows * scorePitch) + 8,
  }
}
