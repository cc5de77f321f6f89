import type { MatrixDialect } from '../../shared/subgroup-matrix.js'
import { indent, range } from '../../shared/wgsl.js'
import type { MatrixLayout } from './geometry.js'
import type { PulledWalk } from './walk.js'

/** A weight of 2^15 is the largest power of two that f16 holds. */
const LARGEST_EXPONENT = 15

/** A row's reference is set one below its maximum: 2^14 of growth are left, and 2^-15 of the maximum is still exact. */
const HEADROOM = 1

/**
 * Statements of one lane for its part of its row's scores; weights are 2^(scale · (score − reference)). The difference comes
 * first: it is exact where scores are so huge that scaled ones have no digits left behind the point.
 */
export interface Softmax {
  /** Reads the scores, sees whether the row has outgrown its reference, and replaces them with f16 weights. */
  readonly weigh: string
  /** Sees whether the row sees values that are not finite. Part of `weigh`, unless values take the place of keys behind it. */
  readonly taint: string
  /** Moves the reference of a row that has outgrown it: declares `rescale`, and corrects `row_sum`. */
  readonly moveReference: string
  /** Weights again, after the reference has moved. */
  readonly weighAgain: string
}

/**
 * Online softmax that moves a row's reference only when its weights would no longer fit f16, instead of with each new
 * maximum: the division by the sum at the end makes any reference exact, and rescaling the output is expensive here.
 */
export function softmax(
  dialect: MatrixDialect,
  { lanesPerRow, vectors, valueTiles, scores, weights, tainted }: MatrixLayout,
  walk: PulledWalk,
): Softmax {
  const taint = `\
// The row sees a key whose values are not finite, and were taken out for the sake of other rows.
if ((atomicLoad(&${tainted}) & ((1u << seen) - 1u)) != 0u) { row_tainted = true; }`
  const each = (lines: (i: number) => string) => range(vectors).map(lines).join('\n')
  const outgrows = `(top - reference) * scale > ${LARGEST_EXPONENT}.0`
  const writeWeights = `\
sum = 0.0;
${range(vectors / 2)
  .map(
    (i) => `\
{
  let a = exp2((x${2 * i} - reference) * scale);
  let b = exp2((x${2 * i + 1} - reference) * scale);
  let both = a + b;
  sum += (both.x + both.y) + (both.z + both.w);
  ${dialect.writeHalves(weights, `weight_at + ${i}u`, 'pack(a, b)')}
}`,
  )
  .join('\n')}${lanesPerRow === 2 ? '\nsum += subgroupShuffleXor(sum, 1u);' : ''}`

  return {
    weigh: `\
${each((i) => `var x${i} = ${dialect.readFloats(scores, `score_at + ${i}u`)};`)}
${walk.seen}
${valueTiles === 0 ? '' : `${taint}\n`}if (seen < KEYS) {
  let places = vec4<u32>(0u, 1u, 2u, 3u) + vec4<u32>(part * ${vectors * 4}u);
  ${indent(
    each((i) => `x${i} = select(vec4<f32>(unseen), x${i}, places + vec4<u32>(${4 * i}u) < vec4<u32>(seen));`),
    2,
  )}
}
let tops = ${range(vectors)
      .map((i) => `x${i}`)
      .reduce((max, x) => `max(${max}, ${x})`)};
var top = max(max(tops.x, tops.y), max(tops.z, tops.w));
${lanesPerRow === 2 ? 'top = max(top, subgroupShuffleXor(top, 1u));\n' : ''}if (${outgrows}) {
  // A row without weights has nothing to rescale.
  if (row_sum == 0.0) { reference = top - ${HEADROOM}.0 / scale; } else { atomicStore(&flags[OUTGROWN], 1u); }
}
var sum: f32;
${writeWeights}`,
    taint,
    moveReference: `\
var rescale = 1.0;
if (${outgrows}) {
  let moved = top - ${HEADROOM}.0 / scale;
  rescale = exp2(max((reference - moved) * scale, -1000.0));
  reference = moved;
}
row_sum *= rescale;`,
    weighAgain: writeWeights,
  }
}
