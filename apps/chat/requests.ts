import type { GenerationStatistics } from '@sparse-attention/onnxruntime'
import type { DeviceInfo } from '../shell/device.js'
import type { Progress } from '../shell/use-job.js'
import type { Agreement, PaneId, PaneToken, PaneTurn } from './conversation.js'
import type { MethodChoice } from './language-session.js'
import type { Sizes } from './sizes.js'

/** What is read: the book that the models' package carries, or a text of the user's. */
export type ChatDocument = { readonly kind: 'book' } | { readonly kind: 'text'; readonly text: string }

/** A stretch of a document, in its tokens. */
export interface Stretch {
  readonly document: ChatDocument
  readonly start: number
  readonly length: number
}

export interface Prepared {
  readonly device: DeviceInfo
  readonly sizes: Sizes
  readonly layers: number
}

export interface Measured {
  /** Of the whole document. */
  readonly tokens: number
  /** Where to begin: the book's own begins behind its title pages. */
  readonly begin: number
}

export interface Sampling {
  /** 0: always the most likely token. */
  readonly temperature: number
  readonly topK: number
  readonly topP: number
  readonly seed: number
}

export interface WriteRequest {
  /** A new conversation that begins with a stretch of a document; absent: the one that is there goes on. */
  readonly reads?: Stretch
  /** Hides a line in the stretch, and asks for it in place of `prompt`. 0 is the beginning, 1 the end. */
  readonly needle?: { readonly depth: number; readonly seed: number }
  /** Text behind the document, or behind what was written last. */
  readonly prompt: string
  readonly reading: MethodChoice
  readonly writing: MethodChoice
  /** Of a new conversation; one that goes on keeps its own. */
  readonly panes: readonly PaneId[]
  readonly newTokens: number
  readonly sampling: Sampling
  /** The text ends where it holds this. */
  readonly stopAt: string
}

export interface NeedleResult {
  /** The line that was hidden, and the question. */
  readonly line: string
  readonly question: string
  readonly answer: string
  /** Tokens before the line, of those of the prompt. */
  readonly at: number
  readonly of: number
  readonly found: Partial<Record<PaneId, boolean>>
}

export interface WriteResult {
  readonly panes: Partial<Record<PaneId, PaneTurn>>
  /** Only of greedy texts behind the same tokens. */
  readonly agreement?: Agreement
  readonly needle?: NeedleResult
  /** Tokens that still fit behind the conversation. */
  readonly room: number
}

export type WriteReport =
  | { readonly kind: 'progress'; readonly progress: Progress }
  /** What reading the prompt looked like, where that is found out in a run of its own. */
  | { readonly kind: 'reading'; readonly pane: PaneId; readonly statistics: GenerationStatistics }
  | { readonly kind: 'token'; readonly pane: PaneId; readonly token: PaneToken }
