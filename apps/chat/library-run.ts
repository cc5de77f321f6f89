import { createRuntime } from '@sparse-attention/core/node'
import { cacheForMethods, quest } from '@sparse-attention/decode'
import { dense } from '@sparse-attention/kernels'
import { isCorrect, loadHeldOutBook, loadLanguageModel, needle } from '@sparse-attention/models/node'
import { type AttentionMethod, AttentionModel, type GeneratedToken, nextToken } from '@sparse-attention/onnxruntime'
import { loadOrt } from '@sparse-attention/onnxruntime/node'
import { xattention } from '@sparse-attention/prefill'

/** What the app is asked for in its test; recorded in `library-run.json`. */
export interface LibraryRunOptions {
  /** Tokens of the book, from its first sentence on. */
  readonly length: number
  /** XAttention's, over its budgets for the length. */
  readonly threshold: number
  readonly newTokens: number
  readonly statisticsEvery: number
  /** Text behind what the first turn wrote. */
  readonly reply: string
  readonly needle: { readonly depth: number; readonly seed: number }
}

export interface LibraryTurn {
  readonly tokens: readonly number[]
  /** Of those that were looked into: reading first. */
  readonly densities: readonly number[]
  readonly text: string
}

export interface LibraryPane {
  readonly turns: readonly LibraryTurn[]
  /** Of the needle. */
  readonly found: boolean
}

/** Two turns and a needle by the library alone, in Node: what the app must show. */
export async function libraryRun({
  length,
  threshold,
  newTokens,
  statisticsEvery,
  reply,
  needle: hidden,
}: LibraryRunOptions): Promise<{
  readonly dense: LibraryPane
  readonly sparse: LibraryPane
  readonly answer: string
  readonly agreed: number
}> {
  using runtime = await createRuntime({ onNotice: () => {}, adapter: 'software' })
  const { model: bytes, tokenizer, config } = await loadLanguageModel()
  const book = await loadHeldOutBook()
  const text = tokenizer.encode(book.slice(book.indexOf('It is a truth universally acknowledged'))).slice(0, length)
  const exact: AttentionMethod = { prefill: dense(), decode: dense({ kernel: 'split' }) }
  const sparse: AttentionMethod = {
    prefill: xattention({ ...xattention.definition.scaled(length), threshold }),
    decode: quest(quest.definition.scaled(length)),
  }
  await using model = await AttentionModel.load(runtime, await loadOrt(runtime, { provider: 'wasm' }), bytes, {
    attention: () => exact,
    provider: 'wasm',
    cache: { pageSize: 16 },
    sessionOptions: { extra: { session: { disable_quant_qdq: '1' } } },
  })
  const sample = needle({ tokenizer, text, length, bos: config.bos, ...hidden })
  const write = async (attention: AttentionMethod): Promise<LibraryPane> => {
    using cache = await model.createCache({ capacity: length + 64, kvCache: cacheForMethods(16) })
    const turn = async (prompt: readonly number[], maxNewTokens: number): Promise<LibraryTurn> => {
      const written: GeneratedToken[] = []
      const options = { cache, attention, maxNewTokens, statisticsEvery }
      for await (const token of model.generate(prompt, options)) written.push(token)
      const tokens = written.map(({ token }) => token)
      const densities = written.flatMap(({ statistics }) => (statistics ? [statistics.density] : []))
      return { tokens, densities, text: tokenizer.decode(tokens) }
    }
    const turns = [await turn([config.bos, ...text], newTokens), await turn(tokenizer.encode(reply), newTokens)]
    cache.reset()
    const { tokens } = await turn(Array.from(sample.prompt), sample.answer.length)
    return { turns, found: isCorrect(sample, tokens) }
  }
  const run = { dense: await write(exact), sparse: await write(sparse), answer: sample.answerText }
  // The whole dense text, read by sparse attention token by token.
  const given = run.dense.turns[0]!.tokens
  using cache = await model.createCache({ capacity: length + 64, kvCache: cacheForMethods(16) })
  let agreed = 0
  for (const [i, expected] of given.entries()) {
    const ids = i === 0 ? [config.bos, ...text] : [given[i - 1]!]
    if ((await nextToken(model, ids, { cache, attention: sparse })).token === expected) agreed++
  }
  return { ...run, agreed }
}
