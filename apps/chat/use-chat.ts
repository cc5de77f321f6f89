import type { GenerationStatistics } from '@sparse-attention/onnxruntime'
import { useReducer } from 'react'
import type { Agreement, PaneId, PaneToken, PaneTurn } from './conversation.js'
import type { NeedleResult, WriteResult } from './requests.js'

/** One turn of one pane, as it is shown. */
export interface TurnView {
  readonly id: number
  /** What stands before the text, for people. */
  readonly prompt: string
  /** Of a run of its own; else the first token has it. */
  readonly reading?: GenerationStatistics
  readonly written: readonly PaneToken[]
  /** Once it has ended by itself. */
  readonly ended: Pick<PaneTurn, 'read' | 'reused' | 'finishReason'> | undefined
}

export interface ChatView {
  readonly panes: Partial<Record<PaneId, readonly TurnView[]>>
  readonly agreement: Agreement | undefined
  readonly needle: NeedleResult | undefined
  /** Tokens that still fit; undefined: nothing can go on. */
  readonly room: number | undefined
}

export type ChatAction =
  | { readonly type: 'begin'; readonly panes: readonly PaneId[]; readonly prompt: string }
  | { readonly type: 'go on'; readonly prompt: string }
  | { readonly type: 'reading'; readonly pane: PaneId; readonly statistics: GenerationStatistics }
  | { readonly type: 'token'; readonly pane: PaneId; readonly token: PaneToken }
  | { readonly type: 'end'; readonly result: WriteResult }

const nothing: ChatView = { panes: {}, agreement: undefined, needle: undefined, room: undefined }

function chatReducer(view: ChatView, action: ChatAction): ChatView {
  switch (action.type) {
    case 'begin': {
      const turn: TurnView = { id: 0, prompt: action.prompt, written: [], ended: undefined }
      return { ...nothing, panes: Object.fromEntries(action.panes.map((id) => [id, [turn]])) }
    }
    case 'go on':
      return {
        ...view,
        agreement: undefined,
        needle: undefined,
        panes: mapPanes(view, (turns) => [
          ...turns,
          { id: turns.length, prompt: action.prompt, written: [], ended: undefined },
        ]),
      }
    case 'reading':
      return changePane(view, action.pane, (turn) => ({ ...turn, reading: action.statistics }))
    case 'token':
      return changePane(view, action.pane, (turn) => ({ ...turn, written: [...turn.written, action.token] }))
    case 'end': {
      const { panes, agreement, needle, room } = action.result
      const end = (turns: readonly TurnView[], id: PaneId) => {
        const done = panes[id]
        return done ? changeLast(turns, (turn) => ({ ...turn, written: done.written, ended: done })) : turns
      }
      return { panes: mapPanes(view, end), agreement, needle, room }
    }
  }
}

function changePane(view: ChatView, pane: PaneId, change: (turn: TurnView) => TurnView): ChatView {
  return { ...view, panes: mapPanes(view, (turns, id) => (id === pane ? changeLast(turns, change) : turns)) }
}

function mapPanes(
  { panes }: ChatView,
  change: (turns: readonly TurnView[], id: PaneId) => readonly TurnView[],
): ChatView['panes'] {
  return Object.fromEntries(Object.entries(panes).map(([id, turns]) => [id, change(turns, id as PaneId)]))
}

function changeLast(turns: readonly TurnView[], change: (turn: TurnView) => TurnView): readonly TurnView[] {
  return turns.map((turn, i) => (i === turns.length - 1 ? change(turn) : turn))
}

export function useChat(): [ChatView, (action: ChatAction) => void] {
  return useReducer(chatReducer, nothing)
}
