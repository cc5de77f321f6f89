import { performance } from 'node:perf_hooks'
import { SparseAttentionError } from '@sparse-attention/core'
import { createRuntime } from '@sparse-attention/core/node'
import { dense } from '@sparse-attention/kernels'
import { loadHeldOutBook, loadLanguageModel } from '@sparse-attention/models/node'
import { Command } from 'commander'
import { type GenerationFound, measureGeneration } from '../bench/generate/measure-generation.js'
import {
  formatFound,
  formatGeneration,
  formatGenerationMarkdown,
  type GenerationReport,
} from '../bench/generate/report.js'
import { collect, parseMethodCases } from '../bench/method-case.js'
import { ResultFolder } from '../bench/result-folder.js'
import { describeRun } from '../bench/run-report.js'
import { commandLine } from '../bench/versions.js'
import { answerTokens, DecodeMeter, qualitySteps } from '../demo/decode-quality.js'
import { decodeMethods } from '../demo/generation-methods.js'
import { loadForGeneration } from '../demo/load-for-generation.js'
import type { Output } from '../terminal.js'
import { integer } from './integer.js'

interface BenchGenerateOptions {
  readonly case?: readonly string[]
  readonly length?: number
  readonly tokens?: number
  readonly passages?: number
  readonly needles?: number
  readonly seed: number
  /** --no-capture. */
  readonly capture: boolean
  readonly out?: string
  readonly json?: boolean
}

/** From a quarter of the keys to a thirty-second; of a short prompt that would be less than a page. */
const defaults = {
  software: {
    ...{ length: 256, tokens: 16, passages: 1, needles: 1 },
    cases: ['quest:tokenBudget=n/4', 'twilight:topP=0.85,tokenBudget=n/2', 'sink-window:localWindow=n/8'],
  },
  hardware: {
    ...{ length: 8192, tokens: 512, passages: 2, needles: 20 },
    cases: [
      ...[4, 8, 16, 32].map((share) => `quest:tokenBudget=n/${share}`),
      ...[0.95, 0.85].map((topP) => `twilight:topP=${topP},tokenBudget=n/2`),
      ...[8, 32].map((share) => `sink-window:localWindow=n/${share}`),
    ],
  },
}

/** Fewer leave no room for the needle and its question. */
const shortest = 64

export function benchGenerateCommand(output: (json: boolean) => Output): Command {
  return new Command('generate')
    .description(
      'write token by token with methods at several budgets: needles and agreement with dense, against density',
    )
    .option(
      '--case <id:name=value,...>',
      'a method with options; n/16 is a share of the prompt; again for more (default: quest, twilight, sink-window)',
      collect,
    )
    .option('--length <n>', 'tokens of each prompt (default: 8192, on a software adapter 256)', integer(shortest))
    .option('--tokens <n>', 'tokens of each dense text (default: 512, on a software adapter 16)', integer(16))
    .option('--passages <n>', 'texts (default: 2, on a software adapter 1)', integer(0))
    .option('--needles <n>', 'needles (default: 20, on a software adapter 1)', integer(0))
    .option('--seed <n>', 'of the first passage and the first needle; the others follow', integer(0), 1)
    .option('--no-capture', "do not record onnxruntime-web's dispatches")
    .option('--out <folder>', 'write generate.json and generate.md there, again after each passage and needle')
    .option('--json', 'print one JSON object')
    .action(async (options: BenchGenerateOptions, command: Command) => {
      const out = output(options.json === true)
      const report = await benchGenerate(options, out, commandLine(command))
      out.result(report, formatGeneration(report))
    })
}

async function benchGenerate(options: BenchGenerateOptions, out: Output, command: string): Promise<GenerationReport> {
  const { signal } = out
  const start = performance.now()
  const known = { known: decodeMethods(), refusal: 'does not run token by token' }
  const folder = await ResultFolder.open(options.out, 'generate')
  using runtime = await createRuntime({ onNotice: out.log })
  const usual = defaults[runtime.software ? 'software' : 'hardware']
  const { length = usual.length, tokens = usual.tokens, seed, capture, case: cases = usual.cases } = options
  const { passages = usual.passages, needles = usual.needles } = options
  const exact = dense({ kernel: 'split' })
  const methods = [exact, ...(await parseMethodCases(cases, length, known))]
  const language = await loadLanguageModel({ signal })
  const capacity = length + Math.max(tokens, answerTokens)
  if (capacity > language.config.maxLength) {
    throw new SparseAttentionError('INVALID_OPTION', {
      message: `The prompts have ${length} tokens and the texts ${tokens}.`,
      fix: `Use ${language.config.maxLength} together at most, as the model was trained on.`,
      where: 'length',
    })
  }
  const text = language.tokenizer.encode(await loadHeldOutBook({ signal }))
  const loaded = await loadForGeneration(
    runtime,
    language,
    { prefill: dense(), decode: exact },
    { capacity, capture },
    out,
  )
  const reportOf = (found: GenerationFound): GenerationReport => ({
    ...describeRun(runtime, command),
    ...{ model: 'bookworm-9m', length, tokens, seed },
    ...found,
    seconds: (performance.now() - start) / 1000,
  })
  out.log(`loaded after ${((performance.now() - start) / 1000).toFixed(0)} s`)
  const bar = out.progress(qualitySteps({ methods, samples: passages + needles - 1 }))
  let last = performance.now()
  const onStep = (label: string) => {
    const now = performance.now()
    out.log(`${label}: ${((now - last) / 1000).toFixed(1)} s`)
    last = now
    bar.step(label)
  }
  try {
    using meter = await DecodeMeter.create({
      loaded,
      language,
      text,
      methods,
      length,
      tokens,
      signal,
      onStep,
    })
    const found = await measureGeneration({
      ...{ meter, passages, needles, seed },
      methods: methods.map(({ method, options }) => ({ method: method.id, options })),
      onResults: async (partial) => {
        out.log(formatFound(partial))
        await folder.write(reportOf(partial), formatGenerationMarkdown(reportOf(partial)))
      },
    })
    return reportOf(found)
  } finally {
    bar.stop()
    await loaded.model.dispose()
  }
}
