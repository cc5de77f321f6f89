import type { LanguageTokenizer } from './tokenizer.js'

/** What stands for bytes that are no character, or not yet. */
const incomplete = '\ufffd'

/** Text of tokens that come one by one. A character may take several; it is given with the last of them. */
export class TokenTextDecoder {
  #pending: number[] = []

  constructor(private readonly tokenizer: Pick<LanguageTokenizer, 'decode'>) {}

  /** Text that this token completes; often empty in the middle of a character. */
  write(token: number): string {
    this.#pending.push(token)
    const text = this.tokenizer.decode(this.#pending)
    // Four bytes are the longest character: what is not complete by then never will be.
    if (text.endsWith(incomplete) && this.#pending.length < 4) return ''
    this.#pending = []
    return text
  }

  /** What is left. */
  end(): string {
    const text = this.#pending.length > 0 ? this.tokenizer.decode(this.#pending) : ''
    this.#pending = []
    return text
  }
}
