import { performance } from 'node:perf_hooks'
import { GpuTimer, measureCeilings } from '@sparse-attention/compare'
import type { PagedKVCache } from '@sparse-attention/core'
import { createRuntime } from '@sparse-attention/core/node'
import { dense } from '@sparse-attention/kernels'
import { Command } from 'commander'
import { measureToken, type TokenOptions, type TokenResult } from '../bench/decode/measure-token.js'
import { type DecodeReport, formatDecode, formatDecodeMarkdown, formatTokens } from '../bench/decode/report.js'
import { appendUpTo, pageSize, sequenceCache } from '../bench/decode/sequences.js'
import { collect, parseMethodCases } from '../bench/method-case.js'
import { ResultFolder } from '../bench/result-folder.js'
import { describeRun } from '../bench/run-report.js'
import { commandLine } from '../bench/versions.js'
import { decodeMethods } from '../demo/generation-methods.js'
import type { Output } from '../terminal.js'
import { integer } from './integer.js'
import { integerList } from './integer-list.js'

interface BenchDecodeOptions {
  readonly keys?: readonly number[]
  readonly groups?: readonly number[]
  readonly batch?: number
  readonly batchKeys?: number
  readonly kvHeads?: number
  readonly headDim?: number
  readonly case?: readonly string[]
  readonly seed: number
  readonly samples?: number
  readonly out?: string
  readonly json?: boolean
}

/** What a CPU does in some seconds; elsewhere the sizes of models of 8 billion parameters. */
const defaults = {
  software: { keys: [256], groups: [4], batch: 2, batchKeys: 128, kvHeads: 2, headDim: 32, samples: 1 },
  hardware: {
    ...{ keys: [8192, 32768, 131072, 524288], groups: [1, 4, 8], batch: 16, batchKeys: 32768 },
    ...{ kvHeads: 8, headDim: 128, samples: 7 },
  },
} as const

/** A sixteenth of the keys and the papers' budget; p of the papers over two budgets; a fixed window. */
const usualCases = [
  'quest:tokenBudget=n/16',
  'quest:tokenBudget=2048',
  'twilight:topP=0.95,tokenBudget=n/4',
  'twilight:topP=0.95,tokenBudget=8192',
  'sink-window:localWindow=1020',
]

export function benchDecodeCommand(output: (json: boolean) => Output): Command {
  return new Command('decode')
    .description('time one token after many, dense and with methods for decoding: speed beside the mass that is kept')
    .option('--keys <n,n,...>', 'tokens before it (default: 8192 to 524288, on a software adapter 256)', integerList)
    .option('--groups <n,n,...>', 'query heads of a KV head (default: 1,4,8; on a software adapter 4)', integerList)
    .option('--batch <n>', 'sequences at once, after the single ones; 1: none (default: 16)', integer(1))
    .option('--batch-keys <n>', 'tokens of each of those (default: 32768)', integer(1))
    .option('--kv-heads <n>', 'KV heads (default: 8)', integer(1))
    .option('--head-dim <n>', 'size of a head (default: 128)', integer(8))
    .option(
      '--case <id:name=value,...>',
      'a method with options; n/16 is a share of the keys; again for more (default: quest, twilight and sink-window)',
      collect,
    )
    .option('--seed <n>', 'of the tokens', integer(0), 1)
    .option('--samples <n>', 'samples that count, of each time (default: 7)', integer(1))
    .option('--out <folder>', 'write decode.json and decode.md there, again after each shape')
    .option('--json', 'print one JSON object')
    .action(async (options: BenchDecodeOptions, command: Command) => {
      const out = output(options.json === true)
      const report = await benchDecode(options, out, commandLine(command))
      out.result(report, formatDecode(report))
    })
}

async function benchDecode(options: BenchDecodeOptions, out: Output, command: string): Promise<DecodeReport> {
  const { signal } = out
  const start = performance.now()
  const cases = options.case ?? usualCases
  const known = { known: decodeMethods(), refusal: 'does not run token by token' }
  const checked = await parseMethodCases(cases, 1024, known) // found wrong now, not after the first shape
  const estimates = checked.some(({ options }) => options.estimate === 8) ? ([4, 8] as const) : ([4] as const)
  const folder = await ResultFolder.open(options.out, 'decode')
  using runtime = await createRuntime({ onNotice: out.log })
  const usual = defaults[runtime.software ? 'software' : 'hardware']
  const { keys = usual.keys, groups = usual.groups, batch = usual.batch, batchKeys = usual.batchKeys } = options
  const { kvHeads = usual.kvHeads, headDim = usual.headDim, samples = usual.samples, seed } = options
  using timer = await GpuTimer.for(runtime)
  const ceilings = await measureCeilings(runtime, timer, signal)
  const measuring: TokenOptions = { runtime, timer, ceilings, seed, samples, signal }
  const shape = { kvHeads, headDim, dtype: 'f16', pageSize, seed, samples, gpuTimes: timer !== undefined } as const
  const results: TokenResult[] = []
  const reportOf = (): DecodeReport => ({
    ...describeRun(runtime, command),
    ...shape,
    ...{ ceilings, results, seconds: (performance.now() - start) / 1000 },
  })
  const measureAll = async (cache: PagedKVCache) => {
    const methods = [dense({ kernel: 'split' }), ...(await parseMethodCases(cases, cache.length, known))]
    for (const group of groups) {
      const found = await measureToken(cache, group, methods, measuring)
      results.push(...found)
      out.log(formatTokens(found))
      await folder.write(reportOf(), formatDecodeMarkdown(reportOf()))
    }
  }
  {
    const lengths = [...keys].sort((a, b) => a - b)
    const capacity = lengths.at(-1)!
    using cache = await sequenceCache(runtime, { batch: 1, kvHeads, headDim, capacity }, estimates)
    for (const length of lengths) {
      await appendUpTo(runtime, cache, length, { seed, signal })
      await measureAll(cache)
    }
  }
  if (batch > 1) {
    using cache = await sequenceCache(runtime, { batch, kvHeads, headDim, capacity: batchKeys }, estimates)
    await appendUpTo(runtime, cache, batchKeys, { seed, signal })
    await measureAll(cache)
  }
  return reportOf()
}
