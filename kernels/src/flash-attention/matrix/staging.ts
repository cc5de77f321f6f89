import type { MatrixDialect } from '../../shared/subgroup-matrix.js'
import { indent, range } from '../../shared/wgsl.js'
import { type MatrixLayout, TILE_KEYS } from './geometry.js'
import type { PulledWalk } from './walk.js'

/**
 * Statements that bring tiles of K and V from memory into `k_tile` and `v_tile`, 16 bytes a lane at a time, in two steps:
 * what is fetched into registers arrives while the tile before is computed, and is put down when that one is done with.
 */
export interface Staging {
  /** Constants of a lane: which units it brings. */
  readonly lane: string
  /**
   * Loads the tile of `walk`, zeros where there are no keys, and what the walk needs to know of the tiles behind it. Where values
   * take the place of keys, only keys of it.
   */
  readonly fetch: string
  /** Where values take the place of keys: loads those of the tile of `walk`, and declares `partial`: not all rows see all of it. */
  readonly fetchValues: string
  /** K, and what the walk needs to know of the tiles behind it. */
  readonly putKeys: string
  /** V, where not all rows see the tile without its NaN and ∞. */
  readonly putValues: string
}

export function staging(
  dialect: MatrixDialect,
  { units, workgroupSize, valueTiles, keys, nextValues, nextTainted }: MatrixLayout,
  walk: PulledWalk,
): Staging {
  const tileUnits = TILE_KEYS * units
  const loads = range(Math.ceil(tileUnits / workgroupSize))
  const guarded = tileUnits % workgroupSize !== 0
  const each = (lines: (i: number) => string) => loads.map(lines).join('\n')

  // Values that take the place of keys are fetched apart from the next ones.
  const apart = valueTiles === 0
  const steps = (name: string) => each((i) => `let ${name}_${i} = ${walk.step(`key_in_tile_${i}`)};`)
  const load = (name: 'k' | 'v', steps = 'step') =>
    each((i) => {
      const step = `${steps}_${i}`
      const inside = `${guarded ? `tile_unit_${i} < TILE_UNITS && ` : ''}${step} + lane_key_${i} < u.key_length`
      return `\
var ${name}_unit_${i} = vec4<u32>();
if (${inside}) { ${name}_unit_${i} = ${name}[${name}_lane_${i} + ${step} * u.${name}_row_stride]; }`
    })
  const put = (name: 'k' | 'v') =>
    each((i) => {
      const statement = dialect.writeHalves(name === 'k' ? keys : nextValues, `at_${i}`, `${name}_unit_${i}`)
      return guarded ? `if (tile_unit_${i} < TILE_UNITS) { ${statement} }` : statement
    })

  const lines = (...parts: readonly string[]) => parts.filter((part) => part !== '').join('\n')

  return {
    lane: each(
      (i) => `\
let tile_unit_${i} = local + ${i * workgroupSize}u;
let key_in_tile_${i} = tile_unit_${i} / UNITS;
let unit_in_row_${i} = tile_unit_${i} % UNITS;
let lane_key_${i} = ${walk.lane(`key_in_tile_${i}`)};
let k_lane_${i} = k_head + lane_key_${i} * u.k_row_stride + unit_in_row_${i};
let v_lane_${i} = v_head + lane_key_${i} * u.v_row_stride + unit_in_row_${i};
let at_${i} = key_in_tile_${i} * TILE_PITCH + unit_in_row_${i};`,
    ),
    fetch: lines(steps('step'), load('k'), apart ? '' : load('v'), walk.fetch),
    fetchValues: lines(steps('value_step'), load('v', 'value_step'), `let partial = ${walk.partial};`),
    putKeys: lines(put('k'), walk.put),
    putValues: `\
if (${apart ? 'partial' : walk.partial}) {
  // Rows that do not see a key multiply its values by 0, which NaN and ∞ would survive.
  ${indent(
    each(
      (i) => `\
let beyond_${i} = not_finite(v_unit_${i});
if (any(beyond_${i} != vec4<u32>())) { atomicOr(&${nextTainted}, 1u << key_in_tile_${i}); }
v_unit_${i} &= ~beyond_${i};`,
    ),
    2,
  )}
}
${put('v')}`,
  }
}
