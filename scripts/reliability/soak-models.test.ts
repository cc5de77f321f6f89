import { trackBuffers } from '@sparse-attention/testing'
import { expect, inject, test } from 'vitest'
import { createHarness } from '../../packages/onnxruntime/test/harness.js'
import { works } from '../../packages/onnxruntime/test/works.js'
import { repeat } from './repeat.js'

/** A run is some twenty of attention. In the gate, faults of models run each some hundred times and count their buffers. */
const runs = Math.ceil((inject('sparseAttentionSoak') ?? 0) / 5)

test.skipIf(runs === 0).for(Object.entries(works))(
  `${runs} times %s: the same, at constant memory`,
  async ([name, start]) => {
    const harness = await createHarness()
    const { runtime } = harness
    const { run, dispose } = await start(harness, runtime)
    const first = await run()
    using buffers = trackBuffers(runtime.device)
    let before = { live: 0, scratch: runtime.scratch.allocatedBytes }
    await repeat(name, runs, async (n) => {
      expect(await run(), `run ${n}`).toEqual(first)
      const after = { live: buffers.live, scratch: runtime.scratch.allocatedBytes }
      if (n === 0) before = after
      expect(after, `run ${n}`).toEqual(before)
    })
    await dispose()
  },
)
