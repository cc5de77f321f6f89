import { type AdapterReport, describeAdapter, findMethod, nameAdapter } from '@sparse-attention/compare'
import { type OptionValue, SparseAttentionError, type Tier } from '@sparse-attention/core'
import { createRuntime } from '@sparse-attention/core/node'
import { dense } from '@sparse-attention/kernels'
import { loadHeldOutBook, loadLanguageModel } from '@sparse-attention/models/node'
import { Command, Option } from 'commander'
import { answerTokens, measureDecodeQuality, qualitySteps } from '../demo/decode-quality.js'
import { decodeMethods } from '../demo/generation-methods.js'
import { loadForGeneration } from '../demo/load-for-generation.js'
import { formatOptions, parseOptions } from '../option-values.js'
import { formatTable } from '../table.js'
import type { Output } from '../terminal.js'
import { integer } from './integer.js'

/** What `demo decode --json` prints. */
export interface DemoDecodeReport {
  readonly model: string
  /** Tokens of each prompt. */
  readonly length: number
  /** Tokens of the dense text. */
  readonly tokens: number
  readonly samples: number
  readonly seed: number
  /** Dense first. */
  readonly results: readonly {
    readonly method: string
    readonly options: Readonly<Record<string, OptionValue>>
    readonly density: number
    readonly needles: number
    readonly agreement: number
    readonly samePrefix: number
    readonly tokenMs: number
  }[]
  readonly tier: Tier
  readonly adapter: AdapterReport
}

interface DemoDecodeOptions {
  readonly method: readonly string[]
  readonly option?: readonly string[]
  readonly length?: number
  readonly tokens?: number
  readonly samples?: number
  readonly seed: number
  readonly json?: boolean
}

const defaults = {
  software: { length: 256, tokens: 16, samples: 1 },
  hardware: { length: 4096, tokens: 512, samples: 50 },
}
/** Fewer leave no room for the needle and its question. */
const shortest = 64

export function demoDecodeCommand(output: (json: boolean) => Output): Command {
  return new Command('decode')
    .description('write with dense and with sparse attention token by token: agreement and needles against density')
    .addOption(
      new Option('--method <id...>', 'what to compare with dense').choices(decodeMethods()).default(['quest'], 'quest'),
    )
    .option('--option <name=value...>', 'options of the sparse methods, over their budgets for the length')
    .option('--length <n>', 'tokens of each prompt (default: 4096, on a software adapter 256)', integer(1))
    .option('--tokens <n>', 'tokens of the dense text (default: 512, on a software adapter 16)', integer(16))
    .option('--samples <n>', 'needles (default: 50, on a software adapter 1)', integer(1))
    .option('--seed <n>', 'of the passage and the first needle; the others follow', integer(0), 1)
    .option('--json', 'print one JSON object')
    .action(async (options: DemoDecodeOptions) => {
      const out = output(options.json === true)
      const report = await demoDecode(options, out)
      out.result(report, formatReport(report))
    })
}

async function demoDecode(options: DemoDecodeOptions, out: Output): Promise<DemoDecodeReport> {
  const { signal } = out
  const sparse = await Promise.all(
    options.method
      .filter((id) => id !== dense.definition.id)
      .map(async (id) => {
        const factory = findMethod(id)
        return { factory, given: await parseOptions(factory.definition, options.option ?? []) }
      }),
  )
  using runtime = await createRuntime({ onNotice: out.log })
  const sizes = { ...defaults[runtime.software ? 'software' : 'hardware'] }
  const { length = sizes.length, tokens = sizes.tokens, samples = sizes.samples, seed } = options
  const language = await loadLanguageModel({ signal })
  const capacity = length + Math.max(tokens, answerTokens)
  if (length < shortest || capacity > language.config.maxLength) {
    throw new SparseAttentionError('INVALID_OPTION', {
      message: `The prompts have ${length} tokens and the text ${tokens}.`,
      fix: `Use a length of at least ${shortest}, and ${language.config.maxLength} together at most, as the model was trained on.`,
      where: 'length',
    })
  }
  const text = language.tokenizer.encode(await loadHeldOutBook({ signal }))
  const exact = dense({ kernel: 'split' })
  const methods = [
    exact,
    ...sparse.map(({ factory, given }) => factory({ ...factory.definition.scaled(length), ...given })),
  ]
  const loaded = await loadForGeneration(runtime, language, { prefill: dense(), decode: exact }, { capacity }, out)
  const bar = out.progress(qualitySteps({ methods, samples }))
  try {
    const common = { loaded, language, text, methods, length, tokens, samples, seed, signal }
    const measured = await measureDecodeQuality({ ...common, onStep: bar.step })
    return {
      model: 'bookworm-9m',
      length,
      tokens,
      samples,
      seed,
      results: measured.map(({ method, hostTimes: _, ...result }) => ({
        method: method.method.id,
        options: method.options,
        ...result,
      })),
      tier: runtime.tier,
      adapter: describeAdapter(runtime),
    }
  } finally {
    bar.stop()
    await loaded.model.dispose()
  }
}

function formatReport({ model, length, tokens, samples, seed, results, tier, adapter }: DemoDecodeReport): string {
  const percent = (share: number) => `${(100 * share).toFixed(1)} %`
  const table = formatTable(
    [
      ['method', 'density', 'needles', 'agreement', 'same until', 'a token', ''],
      ...results.map((result) => [
        result.method,
        result.density.toFixed(3),
        `${result.needles} of ${samples}`,
        percent(result.agreement),
        String(result.samePrefix),
        `${result.tokenMs.toFixed(1)} ms`,
        formatOptions(result.options),
      ]),
    ],
    new Set([1, 2, 3, 4, 5]),
  )
  return [
    table,
    '',
    `${model}, greedy, after ${length.toLocaleString('en-US')} tokens read by dense attention (seed ${seed}). Agreement: with each of the ${tokens} tokens`,
    'that dense attention writes, given those before; same until: where the text would first be another.',
    `Tier ${tier} on ${nameAdapter(adapter)}`,
  ].join('\n')
}
