import { performance } from 'node:perf_hooks'
import { type AdapterReport, describeAdapter, findMethod, mean, median, nameAdapter } from '@sparse-attention/compare'
import { type ConfiguredMethod, type OptionValue, SparseAttentionError, type Tier } from '@sparse-attention/core'
import { createRuntime } from '@sparse-attention/core/node'
import { dense } from '@sparse-attention/kernels'
import {
  heldOutPassage,
  type LanguageModel,
  loadHeldOutBook,
  loadLanguageModel,
  TokenTextDecoder,
} from '@sparse-attention/models/node'
import type { FinishReason, GenerateOptions, GenerationStatistics } from '@sparse-attention/onnxruntime'
import { Command, InvalidArgumentError, Option } from 'commander'
import { decodeMethods, prefillMethods } from '../demo/generation-methods.js'
import { loadForGeneration } from '../demo/load-for-generation.js'
import { formatOptions, parseOptions } from '../option-values.js'
import type { Output } from '../terminal.js'
import { integer } from './integer.js'

/** What `demo generate --json` prints. */
export interface DemoGenerateReport {
  readonly model: string
  readonly seed: number
  readonly text: string
  readonly tokens: readonly number[]
  /** Mean over the tokens, in nats, by the model's own probabilities. */
  readonly logProbability: number
  readonly finishReason: FinishReason
  readonly prompt: {
    readonly tokens: number
    /** Its last characters, as the text goes on from them. */
    readonly end: string
  }
  readonly prefill: Phase & {
    /** Until the first token is there: the first run of the model, which was looked into. */
    readonly firstTokenMs: number
  }
  readonly decode: Phase & {
    /** Median from one token to the next, without those that were looked into; null: there were none. */
    readonly tokenMs: number | null
    readonly tokensPerSecond: number | null
  }
  readonly tier: Tier
  readonly adapter: AdapterReport
}

interface Phase {
  readonly method: string
  readonly options: Readonly<Record<string, OptionValue>>
  /** Kept query–key pairs ÷ visible ones, over layers and the runs that were looked into; null: there were none. */
  readonly density: number | null
  /** Of the last run that was looked into. */
  readonly layers: readonly {
    readonly layer: number
    readonly path: 'sparse' | 'dense'
    readonly density: number
    readonly keysPerQuery: number
  }[]
}

interface DemoGenerateOptions {
  readonly prompt?: string
  readonly length?: number
  readonly tokens?: number
  readonly prefill: string
  readonly prefillOption?: readonly string[]
  readonly decode?: string
  readonly decodeOption?: readonly string[]
  readonly temperature: number
  readonly topK?: number
  readonly topP?: number
  readonly minP?: number
  readonly repetitionPenalty?: number
  readonly seed: number
  readonly json?: boolean
}

/** Read of the book where no prompt is given, and written after it: what a CPU, and what any GPU, does without a long wait. */
const defaults = {
  software: { length: 256, tokens: 32, decode: 'dense' },
  hardware: { length: 4096, tokens: 256, decode: 'twilight' },
}
/** Every so many tokens density is measured; the time of those tokens is not counted. */
const statisticsEvery = 16

export function demoGenerateCommand(output: (json: boolean) => Output): Command {
  return new Command('generate')
    .description(
      'write on from a passage of a book, or from a prompt: text as it comes, its density and speed below it',
    )
    .option('--prompt <text>', 'what to write on from (default: a passage of the book)')
    .option('--length <n>', 'tokens of that passage (default: 4096, on a software adapter 256)', integer(2))
    .option('--tokens <n>', 'most tokens to write (default: 256, on a software adapter 32)', integer(1))
    .addOption(new Option('--prefill <id>', 'what reads the prompt').choices(prefillMethods()).default('xattention'))
    .option('--prefill-option <name=value...>', 'its options, over its budgets for the length')
    .addOption(
      new Option(
        '--decode <id>',
        'what writes token by token (default: twilight, on a software adapter dense)',
      ).choices(decodeMethods()),
    )
    .option('--decode-option <name=value...>', 'its options, over its budgets for the length')
    .option('--temperature <t>', '0: always the most likely token', number, 0.8)
    .option('--top-k <k>', 'only the k most likely tokens', integer(0))
    .option('--top-p <p>', 'only the most likely tokens, as likely as p together', number)
    .option('--min-p <p>', 'only tokens at least p times as likely as the most likely', number)
    .option('--repetition-penalty <x>', 'above 1: makes tokens that were there before less likely', number)
    .option('--seed <n>', 'chooses passage and tokens', integer(0), 1)
    .option('--json', 'print one JSON object')
    .action(async (options: DemoGenerateOptions) => {
      const out = output(options.json === true)
      const report = await demoGenerate(options, out)
      if (out.json) out.result(report, '')
      else out.log(formatReport(report))
    })
}

async function demoGenerate(options: DemoGenerateOptions, out: Output): Promise<DemoGenerateReport> {
  const { signal } = out
  if (options.prompt !== undefined && options.length !== undefined) {
    throw new SparseAttentionError('INVALID_ARGUMENT', {
      message: 'There are a prompt and a length.',
      fix: 'Leave one of them out: --length is for passages of the book.',
      where: 'length',
    })
  }
  const prefillOptions = await parseOptions(findMethod(options.prefill).definition, options.prefillOption ?? [])
  using runtime = await createRuntime({ onNotice: out.log })
  const sizes = defaults[runtime.software ? 'software' : 'hardware']
  const { decode = sizes.decode } = options
  const decodeOptions = await parseOptions(findMethod(decode).definition, options.decodeOption ?? [])
  const language = await loadLanguageModel({ signal })
  const maxNewTokens = options.tokens ?? sizes.tokens
  const ids = await readPrompt(language, options, sizes.length, maxNewTokens, signal)
  const configure = (id: string, values: Readonly<Record<string, OptionValue>>): ConfiguredMethod => {
    const factory = findMethod(id)
    return factory({ ...factory.definition.scaled(ids.length), ...values })
  }
  // What reads pages.
  const split = decode === dense.definition.id ? { kernel: 'split' } : {}
  const methods = {
    prefill: configure(options.prefill, prefillOptions),
    decode: configure(decode, { ...split, ...decodeOptions }),
  }
  const sampling = samplingOptions(options)

  const loaded = await loadForGeneration(runtime, language, methods, { capacity: ids.length + maxNewTokens }, out)
  const live = out.liveText()
  try {
    using cache = await loaded.createCache(ids.length + maxNewTokens)
    const decoder = new TokenTextDecoder(language.tokenizer)
    const generation = loaded.model.generate(ids, { ...sampling, maxNewTokens, cache, statisticsEvery, signal })
    const tokens: number[] = []
    const times: number[] = []
    let [text, nats, firstTokenMs] = ['', 0, 0]
    let prefill: GenerationStatistics | undefined
    const looked: GenerationStatistics[] = []
    let before = performance.now()
    live.status(`reading ${count(ids.length)} tokens with ${options.prefill} …`)
    for await (const { token, logProbability, statistics } of generation) {
      const now = performance.now()
      if (tokens.length === 0) {
        prefill = statistics
        firstTokenMs = now - before
      } else if (statistics) looked.push(statistics)
      else times.push(now - before)
      tokens.push(token)
      nats -= logProbability
      const added = decoder.write(token)
      text += added
      live.write(added)
      live.status(statusLine(tokens.length, prefill!, looked.at(-1), times))
      before = performance.now()
    }
    const rest = decoder.end()
    text += rest
    live.write(rest)
    const tokenMs = times.length > 0 ? median(times) : null
    return {
      model: 'bookworm-9m',
      seed: options.seed,
      text,
      tokens,
      logProbability: -nats / tokens.length,
      finishReason: generation.finishReason!,
      prompt: { tokens: ids.length, end: language.tokenizer.decode(ids.slice(-64)) },
      prefill: { ...phase(methods.prefill, prefill ? [prefill] : []), firstTokenMs },
      decode: { ...phase(methods.decode, looked), tokenMs, tokensPerSecond: tokenMs === null ? null : 1000 / tokenMs },
      tier: runtime.tier,
      adapter: describeAdapter(runtime),
    }
  } finally {
    live.end()
    await loaded.model.dispose()
  }
}

async function readPrompt(
  { tokenizer, config }: LanguageModel,
  { prompt, length, seed }: DemoGenerateOptions,
  defaultLength: number,
  maxNewTokens: number,
  signal: AbortSignal,
): Promise<number[]> {
  const wanted = length ?? defaultLength
  const ids =
    prompt === undefined
      ? wanted + maxNewTokens > config.maxLength
        ? undefined
        : heldOutPassage({
            text: tokenizer.encode(await loadHeldOutBook({ signal })),
            length: wanted,
            seed,
            bos: config.bos,
          })
      : [config.bos, ...tokenizer.encode(prompt)]
  const total = (ids?.length ?? wanted) + maxNewTokens
  if (!ids || total > config.maxLength) {
    throw new SparseAttentionError('INVALID_OPTION', {
      message: `Prompt and text are ${total} tokens.`,
      fix: `The model was trained on ${config.maxLength}: use fewer --tokens, or a shorter ${prompt === undefined ? '--length' : '--prompt'}.`,
      where: 'tokens',
    })
  }
  return Array.from(ids)
}

function samplingOptions({
  temperature,
  topK,
  topP,
  minP,
  repetitionPenalty,
  seed,
}: DemoGenerateOptions): GenerateOptions {
  return {
    temperature,
    seed,
    ...(topK !== undefined && { topK }),
    ...(topP !== undefined && { topP }),
    ...(minP !== undefined && { minP }),
    ...(repetitionPenalty !== undefined && { repetitionPenalty }),
  }
}

function phase({ method, options }: ConfiguredMethod, runs: readonly GenerationStatistics[]): Phase {
  return {
    method: method.id,
    options,
    density: runs.length === 0 ? null : mean(runs.map(({ density }) => density)),
    layers: (runs.at(-1)?.layers ?? []).map(({ layer, path, density, keysPerQuery }) => ({
      layer,
      path,
      density,
      keysPerQuery,
    })),
  }
}

function statusLine(
  tokens: number,
  prefill: GenerationStatistics,
  decode: GenerationStatistics | undefined,
  times: readonly number[],
): string {
  const density = `density ${prefill.density.toFixed(3)} reading${decode ? `, ${decode.density.toFixed(3)} writing` : ''}`
  const speed = times.length > 0 ? `, ${(1000 / median(times.slice(-16))).toFixed(1)} tokens/s` : ''
  return `${tokens} ${tokens === 1 ? 'token' : 'tokens'}${speed}, ${density}`
}

function formatReport({ prompt, tokens, prefill, decode, tier, adapter }: DemoGenerateReport): string {
  const density = (value: number | null) => (value === null ? 'density not measured' : `density ${value.toFixed(3)}`)
  const name = ({ method, options }: Phase) =>
    Object.keys(options).length > 0 ? `${method} (${formatOptions(options)})` : method
  return [
    '',
    `Read ${count(prompt.tokens)} tokens with ${name(prefill)}, ${density(prefill.density)}, first token after ${prefill.firstTokenMs.toFixed(0)} ms.`,
    `Wrote ${tokens.length} with ${name(decode)}, ${density(decode.density)}${
      decode.tokenMs === null
        ? ''
        : `, ${decode.tokenMs.toFixed(1)} ms a token, ${decode.tokensPerSecond!.toFixed(1)} tokens/s`
    }.`,
    `Tier ${tier} on ${nameAdapter(adapter)}`,
  ].join('\n')
}

function count(value: number): string {
  return value.toLocaleString('en-US')
}

function number(text: string): number {
  const value = Number(text)
  if (text.trim() !== '' && Number.isFinite(value)) return value
  throw new InvalidArgumentError('It must be a number.')
}
