import { type AdapterReport, describeAdapter, findMethod, mean, nameAdapter, registry } from '@sparse-attention/compare'
import type { ConfiguredMethod, OptionValue, Tier } from '@sparse-attention/core'
import { createRuntime } from '@sparse-attention/core/node'
import { dense } from '@sparse-attention/kernels'
import { loadLanguageModel } from '@sparse-attention/models/node'
import { loadOrt } from '@sparse-attention/onnxruntime/node'
import { Command, Option } from 'commander'
import { type Measurement, measure, measureSteps } from '../demo/measure.js'
import { makePassage, type Passage } from '../demo/passage.js'
import { type Score, scorePassage } from '../demo/score.js'
import { loadSharp, planPicture } from '../figures/plan-picture.js'
import { checkWritable, writeAtomically } from '../files.js'
import { formatOptions, parseOptions } from '../option-values.js'
import { versionsOf } from '../package-info.js'
import { formatTable } from '../table.js'
import type { Output } from '../terminal.js'
import { integer } from './integer.js'

/** What `demo prefill --json` prints. */
export interface DemoPrefillReport {
  readonly model: string
  readonly book: string
  readonly tokens: number
  readonly seed: number
  /** Dense first. */
  readonly runs: readonly [DemoRun, DemoRun]
  readonly needle: {
    /** Position of its first token. */
    readonly position: number
    readonly line: string
    readonly question: string
    readonly answer: string
  }
  /** Tokens whose loss is measured, and the bytes of text that they stand for. */
  readonly heldOut: { readonly tokens: number; readonly bytes: number }
  /** Prefills whose median is `prefillMs`; 0: the one that was also looked into, less the time of looking. */
  readonly timedRuns: number
  readonly tier: Tier
  readonly adapter: AdapterReport
  readonly versions: Readonly<Record<string, string>>
  /** The picture of the sparse run's plans. */
  readonly png: string
}

export interface DemoRun {
  readonly method: string
  readonly options: Readonly<Record<string, OptionValue>>
  /** Kept query–key pairs ÷ visible ones, mean over layers and heads. */
  readonly density: number
  /** Softmax mass kept, mean over layers. */
  readonly recall: number
  readonly prefillMs: number
  /** Planning and attention, summed over layers. */
  readonly attentionMs: number
  /** Nats per held-out token. */
  readonly loss: number
  readonly bitsPerByte: number
  /** Against the dense run; 0 for itself. */
  readonly lossChange: number
  readonly bitsPerByteChange: number
  readonly needle: Score['needle']
  readonly layers: readonly {
    readonly layer: number
    readonly path: 'sparse' | 'dense'
    readonly density: number
    readonly recall: number
    readonly attentionMs: number
  }[]
}

interface DemoPrefillOptions {
  readonly length?: number
  readonly method: string
  readonly option?: readonly string[]
  readonly seed: number
  readonly png: string
  readonly json?: boolean
}

/** Of the checkpoint that the models package ships. */
const modelName = 'bookworm-9m'
/** Tokens by default: what a CPU, and what any GPU, does without a long wait. */
const defaultLength = { software: 1024, hardware: 4096 }
/** Whole prefills are timed several times where they are fast; on a CPU once has to do. */
const timedRuns = { software: 0, hardware: 3 }

export function demoPrefillCommand(output: (json: boolean) => Output): Command {
  const ids = registry.filter(({ definition }) => definition.phase === 'prefill').map(({ definition }) => definition.id)
  return new Command('prefill')
    .description('prefill a long passage of a book, a needle hidden in it, with dense and with sparse attention')
    .option('--length <n>', 'tokens (default: 4096, on a software adapter 1024)', integer(1))
    .addOption(new Option('--method <id>', 'what to compare with dense').choices(ids).default('xattention'))
    .option('--option <name=value...>', "options of the method, over its budgets for this length (see docs: 'scaled')")
    .option('--seed <n>', 'chooses passage, needle and where it stands', integer(0), 1)
    .option('--png <file>', 'picture of what each head computes', 'sparse-attention-prefill.png')
    .option('--json', 'print one JSON object')
    .action(async (options: DemoPrefillOptions) => {
      const out = output(options.json === true)
      const report = await demoPrefill(options, out)
      out.result(report, formatReport(report))
    })
}

async function demoPrefill(options: DemoPrefillOptions, out: Output): Promise<DemoPrefillReport> {
  const { signal } = out
  const factory = findMethod(options.method)
  const given = await parseOptions(factory.definition, options.option ?? [])
  await checkWritable(options.png)
  await loadSharp() // found missing now, not when the work is done

  using runtime = await createRuntime({ onNotice: out.log })
  const speed = runtime.software ? 'software' : 'hardware'
  const length = options.length ?? defaultLength[speed]
  const sparse = factory({ ...factory.definition.scaled(length), ...given })
  const language = await loadLanguageModel({ signal })
  const passage = await makePassage(language, length, options.seed, signal)
  const ort = await loadOrt(runtime)

  const common = { runtime, ort, language, passage, signal, timedRuns: timedRuns[speed] }
  const methods = [dense() as ConfiguredMethod, sparse]
  const bar = out.progress(methods.length * measureSteps(language.config, common.timedRuns))
  const measured: { method: ConfiguredMethod; measurement: Measurement; score: Score }[] = []
  try {
    for (const method of methods) {
      const measurement = await measure({ ...common, method, onStep: bar.step })
      measured.push({ method, measurement, score: scorePassage(passage, measurement.logits, language.tokenizer) })
    }
  } finally {
    bar.stop()
  }
  const [exact, ours] = measured as [(typeof measured)[0], (typeof measured)[0]]
  const runs = [describeRun(exact, exact.score), describeRun(ours, exact.score)] as const
  signal.throwIfAborted()
  await writeAtomically(options.png, await drawPlans(ours.measurement, runs[1], passage))
  return {
    model: modelName,
    book: passage.book,
    tokens: length,
    seed: options.seed,
    runs,
    needle: {
      position: passage.sample.lines[0]!.start,
      line: passage.sample.lines[0]!.text.trim(),
      question: passage.sample.question.trim(),
      answer: passage.sample.answerText.trim(),
    },
    heldOut: { tokens: passage.heldOut.length, bytes: passage.heldOutBytes },
    timedRuns: common.timedRuns,
    tier: runtime.tier,
    adapter: describeAdapter(runtime),
    versions: versionsOf('webgpu', 'onnxruntime-web'),
    png: options.png,
  }
}

function describeRun(
  { method, measurement, score }: { method: ConfiguredMethod; measurement: Measurement; score: Score },
  exact: Score,
): DemoRun {
  const { layers, prefillMs } = measurement
  return {
    method: method.method.id,
    options: method.options,
    density: mean(layers.map(({ density }) => density)),
    recall: mean(layers.map((layer) => layer.recall)),
    prefillMs,
    attentionMs: layers.reduce((sum, { attentionMs }) => sum + attentionMs, 0),
    loss: score.loss,
    bitsPerByte: score.bitsPerByte,
    lossChange: score.loss - exact.loss,
    bitsPerByteChange: score.bitsPerByte - exact.bitsPerByte,
    needle: { predicted: score.needle.predicted.trim(), found: score.needle.found },
    layers: layers.map(({ plan: _, ...layer }) => layer),
  }
}

function drawPlans({ layers }: Measurement, run: DemoRun, { ids }: Passage): Promise<Buffer> {
  const { plan } = layers[0]!
  const blocks = plan.kind === 'block' ? ` in blocks of ${plan.blockQ}×${plan.blockK}` : ''
  return planPicture({
    title: `${run.method} on ${modelName}: what each head computes`,
    subtitle: `${count(ids.length)} tokens${blocks}; ${formatOptions(run.options)}; mean density ${run.density.toFixed(3)}, recall ${run.recall.toFixed(3)}`,
    rows: layers.map(({ layer, plan }) => ({ label: `Layer ${layer}`, plan })),
  })
}

function formatReport(report: DemoPrefillReport): string {
  const { runs, needle, heldOut, adapter } = report
  const [exact, ours] = runs
  const row = (label: string, cell: (run: DemoRun) => string, last = '') => [label, cell(exact), cell(ours), last]
  const ratio = (of: 'prefillMs' | 'attentionMs') => `${(exact[of] / ours[of]).toFixed(2)}× as fast`
  const signed = (value: number) => `${value < 0 ? '−' : '+'}${Math.abs(value).toFixed(4)}`
  const table = formatTable(
    [
      row('', (run) => run.method),
      row('tokens', () => count(report.tokens)),
      row('density', (run) => run.density.toFixed(3)),
      row('recall', (run) => run.recall.toFixed(4)),
      row('prefill', (run) => time(run.prefillMs), ratio('prefillMs')),
      row('attention', (run) => time(run.attentionMs), ratio('attentionMs')),
      row('held-out loss, nats per token', (run) => run.loss.toFixed(4), signed(ours.lossChange)),
      row('held-out loss, bits per byte', (run) => run.bitsPerByte.toFixed(4), signed(ours.bitsPerByteChange)),
      row('needle', (run) => (run.needle.found ? 'found' : 'not found')),
      row(`answer, expected ${needle.answer}`, (run) => run.needle.predicted),
    ],
    new Set([1, 2]),
  )
  const timed =
    report.timedRuns > 0
      ? `prefill the median of ${report.timedRuns} runs after one uncounted, attention summed over layers in a run of its own`
      : 'one run after a short warm-up, attention summed over layers, the time to look at plans and recall taken off'
  return [
    `${report.model} reads ${count(report.tokens)} tokens of ${report.book} (seed ${report.seed}). Hidden at token ${count(needle.position)}: "${needle.line}"`,
    '',
    table,
    '',
    `${ours.method}: ${formatOptions(ours.options)} (its budgets for this length, where not given)`,
    `Timed: ${timed}; compiled before. Loss: over the ${heldOut.tokens} tokens before the question.`,
    `Tier ${report.tier} on ${nameAdapter(adapter)}; ${Object.entries(report.versions)
      .map((entry) => entry.join(' '))
      .join(', ')}`,
    `Picture: ${report.png}`,
  ].join('\n')
}

function count(value: number): string {
  return value.toLocaleString('en-US')
}

function time(milliseconds: number): string {
  return milliseconds < 10_000 ? `${milliseconds.toFixed(0)} ms` : `${(milliseconds / 1000).toFixed(1)} s`
}
