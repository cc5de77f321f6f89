/**
 * A program such as a user's: attends with a package's first method and compares with plain attention over the plan.
 * Text, since it is written into a project that has nothing of this repository but what it installed.
 *
 * @param name  of the package
 */
export function smokeProgram(name: string): string {
  return `
import { createRuntime, denseMask } from '@sparse-attention/core'
import * as plugin from '${name}'

/** Resolves to { method, density, error }: the largest difference of an element. */
export async function run() {
  const factories = Object.values(plugin).filter((value) => typeof value === 'function' && value.definition)
  const [factory] = factories.sort((a, b) => (a.definition.id < b.definition.id ? -1 : 1))
  const { id, capabilities } = factory.definition
  const headDim = capabilities.headDim.multipleOf
  const keys = 144
  const queries = capabilities.queryLength === 'one' ? 1 : keys
  const causal = capabilities.causal[0]
  const runtime = await createRuntime()
  try {
    const attention = await runtime.use(factory(), { queryHeads: 2, kvHeads: 1, headDim, dtype: 'f32', causal })
    let state = 1
    const random = (length) => Float32Array.from({ length }, () => (state = (state * 48271) % 2147483647) / 1073741824 - 1)
    const values = { q: random(2 * queries * headDim), k: random(keys * headDim), v: random(keys * headDim) }
    const q = runtime.tensor('f32', [1, 2, queries, headDim], values.q)
    const k = runtime.tensor('f32', [1, 1, keys, headDim], values.k)
    const v = runtime.tensor('f32', [1, 1, keys, headDim], values.v)
    const grid = Math.max(...(capabilities.gridAxes ?? [3])) === 3 ? [4, 6, 6] : [12, 12]
    const context = { layer: 0, step: 0, steps: 1, ...(capabilities.grid === 'required' && { grid }) }
    const { out, plan } = await attention.run({ q, k, v, context })
    const { density } = await plan.stats()
    const mask = denseMask(await plan.read())
    const expected = attend(values, mask, { queries, keys, headDim })
    const actual = await runtime.read(out)
    const error = actual.reduce((largest, x, i) => Math.max(largest, Math.abs(x - expected[i])), 0)
    return { method: id, density, error }
  } finally {
    runtime.dispose()
  }
}

/** Softmax attention of two query heads that share keys, in float64. */
function attend({ q, k, v }, mask, { queries, keys, headDim }) {
  const out = new Float64Array(2 * queries * headDim)
  for (let row = 0; row < 2 * queries; row++) {
    const weights = []
    for (let key = 0; key < keys; key++) {
      let score = 0
      for (let d = 0; d < headDim; d++) score += q[row * headDim + d] * k[key * headDim + d]
      weights.push(mask[row * keys + key] ? Math.exp(score / Math.sqrt(headDim)) : 0)
    }
    const sum = weights.reduce((a, b) => a + b, 0)
    for (let key = 0; key < keys && sum > 0; key++) {
      for (let d = 0; d < headDim; d++) out[row * headDim + d] += (weights[key] / sum) * v[key * headDim + d]
    }
  }
  return out
}
`
}
