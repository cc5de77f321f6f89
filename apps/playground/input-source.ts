import {
  type AttentionInput,
  attentionInputOf,
  blobSource,
  captureAttention,
  makeInput,
  readAttentionInput,
} from '@sparse-attention/compare'
import type { Runtime } from '@sparse-attention/core'
import { dense } from '@sparse-attention/kernels'
import { heldOutPassage, type LanguageModel, loadHeldOutBook, loadLanguageModel } from '@sparse-attention/models'
import configUrl from '@sparse-attention/models/checkpoints/bookworm-9m/config.json?url'
import modelUrl from '@sparse-attention/models/checkpoints/bookworm-9m/model.onnx?url'
import tokenizerUrl from '@sparse-attention/models/checkpoints/bookworm-9m/tokenizer.json?url'
import bookUrl from '@sparse-attention/models/data/pride_and_prejudice.txt?url'
import { AttentionModel } from '@sparse-attention/onnxruntime'
import { bundledFiles } from '../shell/bundled-files.js'
import { bytesOf } from '../shell/bytes-of.js'
import { loadOrt } from '../shell/ort.js'
import type { JobContext } from '../shell/use-job.js'
import type { CapturedInput, InputChoice } from './requests.js'

/** The tensors that are asked for; the last ones are kept, since options change more often than they do. */
export class InputSource {
  #last: { readonly key: string; readonly input: AttentionInput } | undefined
  #language: LanguageModel | undefined

  constructor(private readonly runtime: Runtime) {}

  /** @throws INVALID_FILE, INVALID_SHAPE, INVALID_DTYPE for a file; what loading and running the model throw */
  async get(choice: InputChoice, options: JobContext): Promise<AttentionInput> {
    const key = keyOf(choice)
    if (this.#last?.key === key) return this.#last.input
    this.#last = undefined // both at once may not fit
    const input = await this.#make(choice, options)
    this.#last = { key, input }
    return input
  }

  async #make(choice: InputChoice, options: JobContext): Promise<AttentionInput> {
    switch (choice.from) {
      case 'made-up': {
        const { from: _, kind, seed, dtype, causal: __, grid, ...shape } = choice
        return attentionInputOf(makeInput(kind, shape, dtype, seed, grid))
      }
      case 'file':
        options.report({ label: `Reading ${choice.file.name}` })
        return readAttentionInput(blobSource(choice.file, choice.file.name))
      case 'captured':
        return this.#capture(choice, options)
    }
  }

  async #capture({ length, seed, layer }: CapturedInput, { signal, report }: JobContext): Promise<AttentionInput> {
    const { runtime } = this
    const language = await this.#load({ signal, report })
    const book = await loadHeldOutBook({
      ...bundledFiles({ 'pride_and_prejudice.txt': bookUrl }),
      signal,
      onProgress: bytesOf('Loading the book', report),
    })
    const { tokenizer, config } = language
    const ids = heldOutPassage({ text: tokenizer.encode(book), length, seed, bos: config.bos })
    const ort = await loadOrt({ signal, report })
    const model = await AttentionModel.load(runtime, ort, language.model, {
      attention: () => dense(),
      cache: true,
      signal,
      onProgress: ({ done, total }) => report({ label: 'Preparing the model for this device', done, total }),
    })
    try {
      const cache = await model.createCache({ capacity: length })
      try {
        report({ label: `Reading ${length} tokens` })
        const { Tensor } = ort
        const feeds = {
          input_ids: new Tensor('int64', BigInt64Array.from(ids, BigInt), [1, length]),
          attention_mask: new Tensor('int64', new BigInt64Array(length).fill(1n), [1, length]),
          num_logits_to_keep: new Tensor('int64', BigInt64Array.of(1n), []),
        }
        const { causal: _, ...input } = await captureAttention(runtime, layer, (onAttention) =>
          model.run(feeds, { cache, onAttention, outputs: ['logits'], signal }),
        )
        return input
      } finally {
        cache.dispose()
      }
    } finally {
      await model.dispose()
    }
  }

  async #load({ signal, report }: JobContext): Promise<LanguageModel> {
    this.#language ??= await loadLanguageModel({
      ...bundledFiles({ 'model.onnx': modelUrl, 'tokenizer.json': tokenizerUrl, 'config.json': configUrl }),
      signal,
      onProgress: bytesOf('Loading the model', report),
    })
    return this.#language
  }
}

function keyOf(choice: InputChoice): string {
  if (choice.from !== 'file') return JSON.stringify(choice)
  const { name, size, lastModified } = choice.file
  return JSON.stringify({ name, size, lastModified })
}
