import { defineConfig } from 'vitest/config'
import { inNode, tests } from '../test/projects.js'

/* What `conformance.mjs` starts once for each of its units: the tests of methods in Node, and the one that tells the adapter. */
export default defineConfig(inNode('conformance', [tests('.gpu.test.ts'), 'scripts/reliability/tell-adapter.ts']))
