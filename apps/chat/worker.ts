import { createRuntime, type Runtime, SparseAttentionError } from '@sparse-attention/core'
import { isCorrect, type LanguageModel, loadLanguageModel, needle, type TaskSample } from '@sparse-attention/models'
import configUrl from '@sparse-attention/models/checkpoints/bookworm-9m/config.json?url'
import modelUrl from '@sparse-attention/models/checkpoints/bookworm-9m/model.onnx?url'
import tokenizerUrl from '@sparse-attention/models/checkpoints/bookworm-9m/tokenizer.json?url'
import { bundledFiles } from '../shell/bundled-files.js'
import { bytesOf } from '../shell/bytes-of.js'
import { describeDevice } from '../shell/device.js'
import { loadOrt } from '../shell/ort.js'
import { type CallContext, serve } from '../shell/serve.js'
import type { Progress } from '../shell/use-job.js'
import { agreement, agreementSteps, type Pane, type PaneId, type PaneTurn } from './conversation.js'
import { Documents } from './documents.js'
import { densePair, LanguageSession } from './language-session.js'
import type { Measured, Prepared, Stretch, WriteReport, WriteRequest, WriteResult } from './requests.js'
import { sizesFor } from './sizes.js'

interface Opened {
  readonly runtime: Runtime
  readonly language: LanguageModel
  readonly documents: Documents
}

let opened: Opened | undefined
let session: LanguageSession | undefined
/** The panes of the conversation under way, and whether they hold the same tokens. */
let conversation: { readonly panes: ReadonlyMap<PaneId, Pane>; same: boolean } | undefined

type Tell = (progress: Progress) => void

async function open(signal: AbortSignal, tell: Tell): Promise<Opened> {
  if (opened) return opened
  const language = await loadLanguageModel({
    ...bundledFiles({ 'model.onnx': modelUrl, 'tokenizer.json': tokenizerUrl, 'config.json': configUrl }),
    signal,
    onProgress: bytesOf('Loading the model', tell),
  })
  const runtime = await createRuntime({ onNotice: () => {} })
  opened = { runtime, language, documents: new Documents(language.tokenizer) }
  return opened
}

async function load({ runtime, language }: Opened, signal: AbortSignal, tell: Tell): Promise<LanguageSession> {
  if (session) return session
  const ort = await loadOrt({ signal, report: tell })
  session = await LanguageSession.load(runtime, ort, language, {
    signal,
    onStep: (done, total) => tell({ label: 'Preparing the model for this device', done, total }),
  })
  return session
}

const api = serve({
  /** Loads what is needed to count tokens, and tells what this device can do. */
  async prepare(_: undefined, { signal, report }: CallContext<Progress>): Promise<Prepared> {
    const { runtime, language } = await open(signal, report)
    const { maxLength, layers } = language.config
    return { device: describeDevice(runtime), sizes: sizesFor(runtime.software, maxLength), layers }
  },

  async measure({ document }: Pick<Stretch, 'document'>, { signal }: CallContext): Promise<Measured> {
    const { documents } = await open(signal, () => {})
    return documents.measure(document, signal)
  },

  /** The text of a stretch. */
  async show({ document, start, length }: Stretch, { signal }: CallContext): Promise<string> {
    const { documents, language } = await open(signal, () => {})
    return language.tokenizer.decode((await documents.ids(document, signal)).slice(start, start + length))
  },

  /** Reads and writes, the dense pane first. */
  async write(request: WriteRequest, context: CallContext<WriteReport>): Promise<WriteResult> {
    const { signal, checkpoint, report } = context
    const tell: Tell = (progress) => report({ kind: 'progress', progress })
    const all = await open(signal, tell)
    const model = await load(all, signal, tell)
    const attention = { dense: densePair, sparse: model.pair(request.reading, request.writing) }
    const { prompt, sample } = await promptOf(all, request, signal)
    const newTokens = sample ? sample.answer.length : request.newTokens
    if (request.reads) {
      for (const pane of conversation?.panes.values() ?? []) pane[Symbol.dispose]()
      conversation = undefined
      conversation = await begin(all, model, request.panes, prompt.length + newTokens, async (pane, id) => {
        tell({ label: `Compiling ${id} attention` })
        const statistics = await model.warmUp(pane, prompt, attention[id], signal)
        if (statistics) report({ kind: 'reading', pane: id, statistics })
      })
    }
    const talk = goOn(prompt.length + newTokens)
    // All panes at once: where this turn is cancelled, the next one reads what it left.
    for (const pane of talk.panes.values()) pane.append(prompt)
    const { software } = all.runtime
    const { statisticsEvery } = sizesFor(software, all.language.config.maxLength)

    // Until this turn has ended: one that is cancelled leaves panes that hold different tokens.
    const { same } = talk
    talk.same = false
    let checked = false
    const turns: Partial<Record<PaneId, PaneTurn>> = {}
    for (const [id, pane] of talk.panes) {
      let written = 0
      tell({ label: `Reading ${prompt.length} tokens with ${id} attention` })
      turns[id] = await pane.turn([], {
        attention: attention[id],
        sampling: sample ? { temperature: 0, seed: 0 } : request.sampling,
        maxNewTokens: newTokens,
        stopAt: sample ? '' : request.stopAt,
        statisticsEvery,
        // Looking into a run drains the GPU around each attention: on a GPU the first token is timed without.
        statisticsFrom: software ? 0 : 1,
        signal,
        onToken: (token) => {
          if (!checked) checkpoint(all.runtime.device)
          checked = true
          report({ kind: 'token', pane: id, token })
          tell({ label: `Writing with ${id} attention`, done: ++written, total: newTokens })
        },
      })
    }

    const { dense, sparse } = turns
    const tokens = (turn: PaneTurn) => turn.written.map(({ token }) => token)
    const comparable = dense && sparse && same && (sample !== undefined || request.sampling.temperature === 0)
    let compared: WriteResult['agreement']
    if (comparable) {
      const [theirs, own] = [tokens(dense), tokens(sparse)]
      const total = agreementSteps(theirs, own)
      let done = 0
      const onStep = () => tell({ label: 'Comparing token by token', done: ++done, total })
      compared = await agreement(talk.panes.get('sparse')!, theirs, own, attention.sparse, signal, onStep)
    }
    talk.same = same && dense !== undefined && sparse !== undefined && `${tokens(dense)}` === `${tokens(sparse)}`
    const found = Object.fromEntries(
      Object.entries(turns).map(([id, turn]) => [id, sample !== undefined && isCorrect(sample, tokens(turn))]),
    )
    return {
      panes: turns,
      ...(compared && { agreement: compared }),
      ...(sample && { needle: { ...describe(sample), found } }),
      room: roomOf(talk),
    }
  },
})

export type ChatApi = typeof api

async function promptOf(
  { documents, language }: Opened,
  { reads, needle: hidden, prompt }: WriteRequest,
  signal: AbortSignal,
): Promise<{ readonly prompt: readonly number[]; readonly sample?: TaskSample }> {
  const { tokenizer, config } = language
  const typed = tokenizer.encode(prompt)
  if (!reads) return { prompt: typed }
  const { document, start, length } = reads
  const text = (await documents.ids(document, signal)).slice(start, start + length)
  if (!hidden) return { prompt: [config.bos, ...text, ...typed] }
  const { bos } = config
  const sample = needle({ tokenizer, text, length: text.length, bos, ...hidden })
  return { prompt: Array.from(sample.prompt), sample }
}

/** @param warmUp what a pane has to do before it is used */
async function begin(
  { runtime, language }: Opened,
  model: LanguageSession,
  ids: readonly PaneId[],
  needed: number,
  warmUp: (pane: Pane, id: PaneId) => Promise<void>,
): Promise<NonNullable<typeof conversation>> {
  const { maxLength } = language.config
  if (needed > maxLength) {
    throw new SparseAttentionError('LIMIT_EXCEEDED', {
      message: `Document, prompt and text are ${needed} tokens.`,
      fix: `The model was trained on ${maxLength}: read fewer tokens, or write fewer.`,
      where: 'length',
    })
  }
  const capacity = Math.min(maxLength, needed + sizesFor(runtime.software, maxLength).spare)
  const panes = new Map<PaneId, Pane>()
  try {
    for (const id of ['dense', 'sparse'] as const) if (ids.includes(id)) panes.set(id, await model.createPane(capacity))
    for (const [id, pane] of panes) await warmUp(pane, id)
  } catch (error) {
    for (const pane of panes.values()) pane[Symbol.dispose]()
    throw error
  }
  return { panes, same: true }
}

/** @param needed tokens that are read and written */
function goOn(needed: number): NonNullable<typeof conversation> {
  if (!conversation) {
    throw new SparseAttentionError('INVALID_ARGUMENT', {
      message: 'There is no conversation that could go on.',
      fix: 'Read the document again.',
      where: 'reads',
    })
  }
  const room = roomOf(conversation)
  if (needed <= room) return conversation
  throw new SparseAttentionError('LIMIT_EXCEEDED', {
    message: `This turn has ${needed} tokens, and ${room} more fit.`,
    fix: 'Write fewer tokens, or read the document again.',
    where: 'newTokens',
  })
}

function roomOf({ panes }: NonNullable<typeof conversation>): number {
  return Math.min(...[...panes.values()].map(({ room }) => room))
}

function describe({ lines, question, answerText, prompt }: TaskSample) {
  const [line] = lines
  return {
    line: line!.text.trim(),
    question: question.trim(),
    answer: answerText.trim(),
    at: line!.start,
    of: prompt.length,
  }
}
