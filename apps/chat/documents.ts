import { type LanguageTokenizer, loadHeldOutBook } from '@sparse-attention/models'
import bookUrl from '@sparse-attention/models/data/pride_and_prejudice.txt?url'
import { bundledFiles } from '../shell/bundled-files.js'
import type { ChatDocument, Measured } from './requests.js'

/** Behind title pages and lists of pictures. */
const firstSentence = 'It is a truth universally acknowledged'

/** Documents as tokens; the last one is remembered, since a long one takes a while. */
export class Documents {
  #last: { readonly key: string; readonly ids: readonly number[]; readonly begin: number } | undefined

  constructor(private readonly tokenizer: LanguageTokenizer) {}

  async ids(document: ChatDocument, signal: AbortSignal): Promise<readonly number[]> {
    return (await this.#read(document, signal)).ids
  }

  async measure(document: ChatDocument, signal: AbortSignal): Promise<Measured> {
    const { ids, begin } = await this.#read(document, signal)
    return { tokens: ids.length, begin }
  }

  async #read(document: ChatDocument, signal: AbortSignal) {
    const key = document.kind === 'book' ? 'book' : `text ${document.text}`
    if (this.#last?.key === key) return this.#last
    const { tokenizer } = this
    if (document.kind === 'text') {
      this.#last = { key, ids: tokenizer.encode(document.text), begin: 0 }
      return this.#last
    }
    const text = await loadHeldOutBook({ ...bundledFiles({ 'pride_and_prejudice.txt': bookUrl }), signal })
    const title = tokenizer.encode(text.slice(0, text.indexOf(firstSentence)))
    const book = tokenizer.encode(text.slice(text.indexOf(firstSentence)))
    this.#last = { key, ids: [...title, ...book], begin: title.length }
    return this.#last
  }
}
