import { SparseAttentionError } from '@sparse-attention/core'
import { createRandom } from '@sparse-attention/testing'
import { expect, test } from 'vitest'
import { readGraphFile } from '../test/read-export.js'
import { cutGraph } from './cut.js'
import { findAttentions } from './find-attentions.js'
import { readGraph } from './graph.js'
import { parseModel } from './onnx.js'
import { withCache } from './with-cache.js'

// Real exports in which inputs, outputs and attributes have been exchanged: matchers may find anything or nothing, and
// nothing but typed errors comes out.
test.each([
  ['llama-cache-sdpa-script-17', 7],
  ['llama-cache-eager-dynamo-18', 8],
  ['gpt2-sdpa-dynamo-23', 9],
])('%s, rewired at random (seed %i)', async (name, seed) => {
  const bytes = await readGraphFile(name)
  const random = createRandom(seed)
  const seen = { refused: 0, kept: 0, replaced: 0 }
  for (let i = 0; i < 120; i++) {
    const proto = parseModel(bytes)
    const nodes = proto.graph!.node
    const anyNode = () => nodes[random.integer(0, nodes.length - 1)]!
    const values = nodes.flatMap(({ output }) => output)
    for (let j = random.integer(1, 6); j > 0; j--) {
      const node = anyNode()
      const at = random.integer(0, Math.max(0, node.input.length - 1))
      const change = random.integer(0, 4)
      if (change === 0) node.input[at] = values[random.integer(0, values.length - 1)]!
      if (change === 1) node.input.splice(at, 1)
      if (change === 2) node.attribute = anyNode().attribute
      if (change === 3) node.input.splice(at, 0, '')
      if (change === 4) node.opType = anyNode().opType
    }
    try {
      const graph = readGraph(proto)
      const found = findAttentions(graph).filter(({ node }) => node.obstacle === undefined)
      cutGraph(graph, found)
      const cached = withCache(graph, found)
      cutGraph(cached.graph, cached.attentions)
      seen[found.length > 0 ? 'replaced' : 'kept']++
    } catch (error) {
      if (!SparseAttentionError.is(error)) throw error
      seen.refused++
    }
  }
  // Each of these happens, so the changes are neither too wild nor too tame.
  expect(seen.refused).toBeGreaterThan(10)
  expect(seen.replaced + seen.kept).toBeGreaterThan(5)
})
