import { createRuntime } from '@sparse-attention/core/node'
import { dense, equalRegions, regionOfTokens } from '@sparse-attention/kernels'
import { loadImageClassifier, type Picture, preprocess, stageOfLayer } from '@sparse-attention/models/node'
import { AttentionModel } from '@sparse-attention/onnxruntime'
import { loadOrt } from '@sparse-attention/onnxruntime/node'
import { bilevelRouting, regionRoutes } from '@sparse-attention/vision'

/** What the packages say about a photo, without anything of the app; recorded in `library-run.json`. */
export interface LibraryRun {
  /** Of each layer that routes: the regions that each region attends to. */
  readonly routes: readonly { readonly layer: number; readonly regions: readonly (readonly number[])[] }[]
  /** Share of exact attention's mass in what layer 11 computes for the queries of region 18: from the LSEs of both. */
  readonly covered: number
}

const judged = { layer: 11, region: 18 }

/** For tests, in Node: kestrel-3m as it was trained, with the packages used as their documentation says. */
export async function libraryRun(picture: Picture): Promise<LibraryRun> {
  const { model: bytes, config } = await loadImageClassifier()
  using runtime = await createRuntime({ onNotice: () => {}, adapter: 'software' })
  const ort = await loadOrt(runtime, { provider: 'wasm', threads: 1 })
  const methods = config.stages.map(({ routing }) => (routing ? bilevelRouting(routing) : dense()))
  await using model = await AttentionModel.load(runtime, ort, bytes, {
    attention: ({ layer }) => methods[config.stages.indexOf(stageOfLayer(config, layer))]!,
  })
  const routes: { layer: number; regions: number[][] }[] = []
  let covered = Number.NaN
  const shape = [1, 3, config.imageSize, config.imageSize]
  await model.run(
    { pixel_values: new ort.Tensor('float32', preprocess(picture, config), shape) },
    {
      context: ({ layer }) => ({ grid: stageOfLayer(config, layer).grid }),
      onAttention: async ({ node, plan, q, k, v, lse }) => {
        if (plan.path !== 'sparse') return
        const { routes: indices, regions, topK } = regionRoutes(await plan.read())
        const of = (region: number) => [...indices.subarray(region * topK, (region + 1) * topK)]
        routes.push({ layer: node.layer, regions: Array.from({ length: regions }, (_, region) => of(region)) })
        if (node.layer !== judged.layer) return
        const { queryHeads, scale } = node
        const size = { queryHeads, headDim: q.shape[3]!, dtype: q.dtype, causal: false }
        using exact = await runtime.use(dense(), { ...size, ...(scale !== undefined && { scale }) })
        const result = await exact.run({ q, k, v })
        const [ours, all] = [await runtime.read(lse), await runtime.read(result.lse)]
        for (const { buffer } of [result.out, result.lse]) buffer.destroy()
        const { grid, routing } = stageOfLayer(config, node.layer)
        const region = regionOfTokens(equalRegions(grid, routing!.regions))
        const rows = Array.from(ours, (_, i) => i).filter((i) => region[i % region.length] === judged.region)
        covered = rows.reduce((sum, i) => sum + Math.exp(ours[i]! - all[i]!), 0) / rows.length
      },
    },
  )
  return { routes, covered }
}
