import { allowedError, errorOfRows, makeInput, timeWall, uploadInput } from '@sparse-attention/compare'
import { dense } from '@sparse-attention/kernels'
import { NotMeasured, type Row } from '../row.js'
import { timeSubmits } from '../submit-times.js'
import { recordAttention } from '../timing.js'
import { compulsoryBytes, describe, visibleOf, wrong } from '../workbench.js'

/** Against onnxruntime-web's own attention, on the same device and the same buffers. */
export const onnxruntimeRows: readonly Row[] = [
  {
    name: 'onnxruntime-web',
    title: "onnxruntime-web's MultiHeadAttention ÷ dense, wall time",
    unit: '×',
    target: { atLeast: 14 },
    async measure(bench) {
      const { runtime, seed, samples, signal } = bench
      const shape = bench.shape(8192)
      const call = { causal: false, scale: 1 / Math.sqrt(shape.headDim), seed }
      const input = makeInput('gaussian', shape, 'f16', seed)
      using tensors = uploadInput(runtime, input)
      using attention = await bench.use(dense(), shape, false)
      const { q, k, v, out, lse } = tensors
      await attention.run({ q, k, v, out, lse }, { signal })
      const error = errorOfRows(input, call, { out: await runtime.read(out), lse: await runtime.read(lse) })
      if (!(error <= allowedError.f16)) throw wrong('dense', error)
      const sampling = { samples, signal, onSample: () => {} }
      const ours = await timeWall(runtime, () => attention.run({ q, k, v, out, lse }, { signal }), sampling)
      const { dense: gpu } = await bench.time({ dense: recordAttention(attention, { q, k, v, out, lse }) })

      // Loaded when needed: it brings onnxruntime-web along.
      const { openPeer } = await import('../../peer.js')
      const peer = await openPeer(runtime, input, tensors, call).catch((problem: unknown) => {
        throw new NotMeasured('not available', String(problem instanceof Error ? problem.message : problem))
      })
      await using session = peer
      await session.call().catch((problem: unknown) => {
        throw new NotMeasured('not available', String(problem instanceof Error ? problem.message : problem))
      })
      const peerError = errorOfRows(input, call, { out: await runtime.read(out) })
      if (!(peerError <= allowedError.f16)) throw wrong('onnxruntime-web', peerError)
      const { calls: _, ...wall } = await timeWall(runtime, () => session.call(), sampling)
      const onGpu = await timeSubmits(runtime, () => session.call(), { samples, signal })
      const { calls: __, ...dense_ } = ours
      return {
        value: wall.medianMs / dense_.medianMs,
        setup: `${describe(shape, false)}; both read the same buffers`,
        tier: runtime.tier,
        checkedError: Math.max(error, peerError),
        times: {
          'dense, GPU': gpu,
          'dense, wall': dense_,
          'onnxruntime-web, wall': wall,
          ...(onGpu && { 'onnxruntime-web, GPU': onGpu }),
        },
        operations: 4 * shape.headDim * visibleOf(shape, false),
        bytes: compulsoryBytes(shape),
        note: onGpu
          ? `${(onGpu.medianMs / gpu.medianMs).toFixed(1)}× on the GPU's clock: timestamps before and after each of onnxruntime-web's submits`
          : "onnxruntime-web's GPU time is not known: its submits do not pass through the device's queue, or the device has no timestamps",
      }
    },
  },
]
