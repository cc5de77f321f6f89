import {
  type AdapterReport,
  describeAdapter,
  findMethod,
  median,
  nameAdapter,
  registry,
} from '@sparse-attention/compare'
import type { ConfiguredMethod, OptionValue, Tier } from '@sparse-attention/core'
import { createRuntime } from '@sparse-attention/core/node'
import { dense } from '@sparse-attention/kernels'
import {
  loadHeldOutBook,
  loadLanguageModel,
  multiKey,
  needle,
  type TaskSample,
  variableTracking,
} from '@sparse-attention/models/node'
import { AttentionModel } from '@sparse-attention/onnxruntime'
import { loadOrt } from '@sparse-attention/onnxruntime/node'
import { Command, Option } from 'commander'
import { answered } from '../demo/answered.js'
import { prefill } from '../demo/prefill.js'
import { argmax } from '../demo/score.js'
import { parseOptions } from '../option-values.js'
import { formatTable } from '../table.js'
import type { Output } from '../terminal.js'
import { integer } from './integer.js'

/** What `demo tasks --json` prints. */
export interface DemoTasksReport {
  readonly model: string
  readonly samples: number
  readonly seed: number
  readonly results: readonly TaskResult[]
  readonly tier: Tier
  readonly adapter: AdapterReport
}

export interface TaskResult {
  readonly task: TaskName
  /** Tokens of prompt and answer. */
  readonly length: number
  readonly method: string
  readonly options: Readonly<Record<string, OptionValue>>
  /** Samples whose whole answer greedy decoding writes. */
  readonly correct: number
  readonly samples: number
  /** Median time of a prefill. */
  readonly prefillMs: number
}

const tasks = {
  needle,
  'multi-key': multiKey,
  'variable-tracking': variableTracking,
} as const

type TaskName = keyof typeof tasks

const defaultLengths: readonly number[] = [1024]

interface DemoTasksOptions {
  readonly task: readonly TaskName[]
  readonly length: readonly number[]
  readonly method: readonly string[]
  readonly option?: readonly string[]
  readonly samples: number
  readonly seed: number
  readonly json?: boolean
}

export function demoTasksCommand(output: (json: boolean) => Output): Command {
  const ids = registry
    .filter(({ definition }) => definition.phase === 'prefill' || definition.phase === 'any')
    .map(({ definition }) => definition.id)
  const names = Object.keys(tasks)
  return new Command('tasks')
    .description('long-context tasks in a held-out book: how many the model solves with each method')
    .addOption(new Option('--task <name...>', 'what to solve').choices(names).default(names, names.join(' ')))
    .addOption(
      new Option('--length <n...>', 'tokens of prompt and answer')
        .argParser(lengths)
        .default(defaultLengths, defaultLengths.join(' ')),
    )
    .addOption(
      new Option('--method <id...>', 'in place of the attention')
        .choices(ids)
        .default(['dense', 'xattention'], 'dense xattention'),
    )
    .option('--option <name=value...>', 'options of the sparse methods, over their budgets for the length')
    .option('--samples <n>', 'of each task, length and method', integer(1), 10)
    .option('--seed <n>', 'of the first sample; the others follow', integer(0), 1)
    .option('--json', 'print one JSON object')
    .action(async (options: DemoTasksOptions) => {
      const out = output(options.json === true)
      const report = await demoTasks(options, out)
      out.result(report, formatReport(report))
    })
}

async function demoTasks(options: DemoTasksOptions, out: Output): Promise<DemoTasksReport> {
  const { signal } = out
  const given = new Map(
    await Promise.all(
      options.method
        .filter((id) => id !== dense.definition.id)
        .map(async (id) => [id, await parseOptions(findMethod(id).definition, options.option ?? [])] as const),
    ),
  )
  using runtime = await createRuntime({ onNotice: out.log })
  const language = await loadLanguageModel({ signal })
  const text = language.tokenizer.encode(await loadHeldOutBook({ signal }))
  const ort = await loadOrt(runtime)
  const results: TaskResult[] = []
  const bar = out.progress(options.method.length * options.length.length * options.task.length * options.samples)
  try {
    for (const id of options.method) {
      for (const length of options.length) {
        const factory = findMethod(id)
        const method: ConfiguredMethod = factory({ ...factory.definition.scaled(length), ...given.get(id) })
        const model = await AttentionModel.load(runtime, ort, language.model, { attention: () => method, signal })
        try {
          for (const task of options.task) {
            let correct = 0
            const times: number[] = []
            for (let i = 0; i < options.samples; i++) {
              const seed = options.seed + i
              const { ids, sample, answerStart } = answered(length, (promptLength) =>
                tasks[task]({
                  tokenizer: language.tokenizer,
                  text,
                  length: promptLength,
                  seed,
                  bos: language.config.bos,
                }),
              )
              const run = await prefill(model, ort, language.config, ids, ids.length - answerStart + 1, { signal })
              times.push(run.milliseconds)
              if (writesAnswer(sample, run.logits)) correct++
              bar.step(`${id}: ${task} at ${length}`)
            }
            const { samples } = options
            results.push({
              task,
              length,
              method: id,
              options: method.options,
              correct,
              samples,
              prefillMs: median(times),
            })
          }
        } finally {
          await model.dispose()
        }
      }
    }
  } finally {
    bar.stop()
  }
  return {
    model: 'bookworm-9m',
    samples: options.samples,
    seed: options.seed,
    results,
    tier: runtime.tier,
    adapter: describeAdapter(runtime),
  }
}

/**
 * Does greedy decoding write the answer? It does exactly if every token of it is the most likely one after the right
 * tokens before it.
 *
 * @param logits f32 [answer + 1, vocabulary], from the last token of the prompt on
 */
function writesAnswer({ answer }: TaskSample, logits: Float32Array): boolean {
  const vocabulary = logits.length / (answer.length + 1)
  return answer.every((id, i) => argmax(logits.subarray(i * vocabulary, (i + 1) * vocabulary)) === id)
}

function formatReport({ model, results, tier, adapter, seed, samples }: DemoTasksReport): string {
  const table = formatTable(
    [
      ['task', 'tokens', 'method', 'solved', '', 'prefill'],
      ...results.map((result) => [
        result.task,
        result.length.toLocaleString('en-US'),
        result.method,
        `${result.correct} of ${result.samples}`,
        `${((100 * result.correct) / result.samples).toFixed(0)} %`,
        `${result.prefillMs.toFixed(0)} ms`,
      ]),
    ],
    new Set([1, 3, 4, 5]),
  )
  return `${table}\n\n${model}, greedy, ${samples} samples each from seed ${seed}. Tier ${tier} on ${nameAdapter(adapter)}`
}

/** Collects repeated values; commander hands over what it has so far. */
function lengths(value: string, previous: readonly number[] | undefined): number[] {
  const length = integer(1)(value)
  // The default is one array, so it is replaced, not extended.
  return previous === defaultLengths || previous === undefined ? [length] : [...previous, length]
}
