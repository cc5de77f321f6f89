import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { SparseAttentionError } from '@sparse-attention/core'
import type { VideoFrontierReport } from './report.js'
import { type CaseSamples, mergeSamples, samplesOf, summarise } from './samples.js'
import type { SeedRange } from './seeds.js'

/** File of what one process has made of a range of seeds. */
export function partName({ first, last }: SeedRange, times: boolean): string {
  return `video-part-${first}-${last}${times ? '' : '-untimed'}.json`
}

/**
 * All parts of a folder as one report: every case with the videos of all of them, those that one part did not time or look into
 * from another. Where two parts have the same of one seed, the file written later counts: a seed made again replaces itself.
 * Times with dispatches recorded and without are of different things: those made as the newest timed part was are kept.
 *
 * @throws INVALID_FILE, INVALID_ARGUMENT for a folder without parts, or with parts that were made of something else
 */
export async function mergeParts(folder: string, command: string): Promise<VideoFrontierReport> {
  const names = await newestFirst(folder)
  const parts = await Promise.all(names.map((name) => readPart(join(folder, name))))
  // What is timed tells most about how it was made.
  const about = parts.find(({ results }) => results[0]!.totalMs !== null) ?? parts[0]!
  const madeOf = ({ model, tokens, steps, guidance, dtype, adapter }: VideoFrontierReport) =>
    JSON.stringify({ model, tokens, steps, guidance, dtype, adapter })
  const other = parts.findIndex((part) => madeOf(part) !== madeOf(about))
  if (other >= 0) {
    throw new SparseAttentionError('INVALID_ARGUMENT', {
      message: `${names[other]} is of other videos than the parts beside it: ${madeOf(parts[other]!)}.`,
      fix: 'Keep parts of each size, model and device in a folder of their own.',
      where: names[other]!,
    })
  }
  const samples = parts.map(({ captured, results }) => {
    const cases = results.map(samplesOf)
    return captured.used === about.captured.used ? cases : cases.map(untimed)
  })
  const results = summarise(mergeSamples(samples))
  return { ...about, command, seeds: Math.max(...results.map(({ samples }) => samples.seed.length)), results }
}

function untimed({ samples, ...name }: CaseSamples): CaseSamples {
  const times = { attentionMs: null, totalMs: null, hostMs: null, waitMs: null }
  return { ...name, samples: samples.map((sample) => ({ ...sample, ...times })) }
}

async function newestFirst(folder: string): Promise<string[]> {
  const names = (await readdir(folder)).filter((name) => /^video-part-.*\.json$/.test(name)).sort()
  const dated = await Promise.all(names.map(async (name) => ({ name, at: (await stat(join(folder, name))).mtimeMs })))
  return dated.sort((a, b) => b.at - a.at).map(({ name }) => name)
}

async function readPart(path: string): Promise<VideoFrontierReport> {
  try {
    return JSON.parse(await readFile(path, 'utf8')) as VideoFrontierReport
  } catch (cause) {
    throw new SparseAttentionError('INVALID_FILE', {
      message: `${path} is not what bench video writes.`,
      fix: 'Take it away, or make it again.',
      where: path,
      cause,
    })
  }
}
