import type { CompareRequest, InputChoice, MethodChoice } from './requests.js'

/** A program for Node that measures what the page shows, on the packages as they are published. */
export function reproduce({ input, methods, runs }: CompareRequest): string {
  const { imports, make, causal, grid } = source(input)
  const compare = ['findMethod', 'measureMethods', 'median', ...imports.compare].sort()
  return `${[
    `import { ${compare.join(', ')} } from '@sparse-attention/compare'`,
    "import { createRuntime } from '@sparse-attention/core/node'",
    ...imports.others,
  ].join('\n')}

const runtime = await createRuntime()
${make}
const methods = [
  findMethod('dense')(),
${methods.map((method) => `  ${callOf(method)},`).join('\n')}
]
const measured = await measureMethods(runtime, methods, input, {
  causal: ${causal},${grid ? `\n  grid: ${JSON.stringify(grid)},` : ''}
  runs: ${runs},
  signal: new AbortController().signal,
  onRun() {},
})
console.table(
  measured.map(({ method, path, keptPairs, visiblePairs, recall, relativeError, runsMs }) => ({
    method: method.method.id,
    path,
    density: keptPairs / visiblePairs,
    recall,
    relativeError,
    medianMs: median(runsMs),
  })),
)
runtime.dispose()
`
}

interface Source {
  readonly imports: { readonly compare: readonly string[]; readonly others: readonly string[] }
  /** Lines that make `input`. */
  readonly make: string
  readonly causal: boolean
  readonly grid?: readonly number[] | undefined
}

function source(input: InputChoice): Source {
  switch (input.from) {
    case 'made-up': {
      const { from: _, kind, seed, dtype, causal, grid, ...shape } = input
      const last = grid ? `, ${JSON.stringify(grid)}` : ''
      return {
        imports: { compare: ['attentionInputOf', 'makeInput'], others: [] },
        make: `const shape = ${literal(shape)}
const input = attentionInputOf(makeInput('${kind}', shape, '${dtype}', ${seed}${last}))`,
        causal,
        grid,
      }
    }
    case 'file':
      return {
        imports: {
          compare: ['blobSource', 'readAttentionInput'],
          others: ["import { readFile } from 'node:fs/promises'"],
        },
        make: `const path = ${JSON.stringify(input.file.name)}
const input = await readAttentionInput(blobSource(new Blob([await readFile(path)]), path))`,
        causal: input.causal,
        grid: input.grid,
      }
    case 'captured':
      return {
        imports: {
          compare: ['captureAttention'],
          others: [
            "import { heldOutPassage, loadHeldOutBook, loadLanguageModel } from '@sparse-attention/models/node'",
            "import { AttentionModel } from '@sparse-attention/onnxruntime'",
            "import { loadOrt } from '@sparse-attention/onnxruntime/node'",
          ],
        },
        make: `const language = await loadLanguageModel()
const text = language.tokenizer.encode(await loadHeldOutBook())
const ids = heldOutPassage({ text, length: ${input.length}, seed: ${input.seed}, bos: language.config.bos })
const ort = await loadOrt(runtime)
const attention = () => findMethod('dense')()
const model = await AttentionModel.load(runtime, ort, language.model, { attention, cache: true })
const cache = await model.createCache({ capacity: ids.length })
const feeds = {
  input_ids: new ort.Tensor('int64', BigInt64Array.from(ids, BigInt), [1, ids.length]),
  attention_mask: new ort.Tensor('int64', new BigInt64Array(ids.length).fill(1n), [1, ids.length]),
  num_logits_to_keep: new ort.Tensor('int64', BigInt64Array.of(1n), []),
}
const input = await captureAttention(runtime, ${input.layer}, (onAttention) =>
  model.run(feeds, { cache, onAttention, outputs: ['logits'] }),
)
cache.dispose()
await model.dispose()`,
        causal: true,
      }
  }
}

function callOf({ id, options }: MethodChoice): string {
  return `findMethod('${id}')(${Object.keys(options).length > 0 ? literal(options) : ''})`
}

/** An object as people write it. */
function literal(value: object): string {
  const fields = Object.entries(value).map(([name, field]) => `${name}: ${JSON.stringify(field).replaceAll('"', "'")}`)
  return `{ ${fields.join(', ')} }`
}
