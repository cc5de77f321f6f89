import { Writable } from 'node:stream'
import { describe, expect, it } from 'vitest'
import { liveText } from './live-text.js'

/** A terminal that knows what is written here: lines, carriage returns, and the control sequences for up, right and clear. */
class Terminal {
  readonly lines: string[] = ['']
  #row = 0
  #column = 0

  stream(isTTY: boolean, columns = 20): Writable & { isTTY: boolean; columns: number } {
    const stream = new Writable({
      write: (chunk: Buffer, _, done) => {
        this.#draw(chunk.toString())
        done()
      },
    })
    return Object.assign(stream, { isTTY, columns })
  }

  #draw(text: string): void {
    for (const [part, count, command] of text.replaceAll('\x1b', '⎋').matchAll(/⎋\[(\d*)([ACK])|[\s\S]/gu)) {
      if (command === 'A') this.#row -= Number(count)
      else if (command === 'C') this.#column += Number(count)
      else if (command === 'K') this.lines[this.#row] = this.lines[this.#row]!.slice(0, this.#column)
      else if (part === '\r') this.#column = 0
      else if (part === '\n') {
        this.#row++
        this.#column = 0
        this.lines[this.#row] ??= ''
      } else {
        const line = this.lines[this.#row]!.padEnd(this.#column)
        this.lines[this.#row] = line.slice(0, this.#column) + part + line.slice(this.#column + 1)
        this.#column++
      }
    }
  }
}

describe('liveText', () => {
  it('keeps the line below the text, which it breaks between words', () => {
    const screen = new Terminal()
    const live = liveText(screen.stream(true), screen.stream(true))
    live.write('It is a truth')
    live.status('1 token')
    live.write(' universal')
    expect(screen.lines).toEqual(['It is a truth', 'universal', '1 token'])
    live.status('2 tokens, and much more to say')
    live.write('ly.\nAll')
    expect(screen.lines).toEqual(['It is a truth', 'universally.', 'All', '2 tokens, and much '])
    live.end()
    live.end()
    expect(screen.lines).toEqual(['It is a truth', 'universally.', 'All', ''])
  })

  it('writes the text as it is where stdout is a file, and clears the line in the end', () => {
    const [file, screen] = [new Terminal(), new Terminal()]
    const live = liveText(file.stream(false), screen.stream(true))
    for (const word of ['It is a truth', ' universally acknowledged']) {
      live.write(word)
      live.status(word)
    }
    expect(screen.lines).toEqual([' universally acknow'])
    live.end()
    expect([file.lines, screen.lines]).toEqual([['It is a truth universally acknowledged', ''], ['']])
  })

  it('draws no line where nobody looks', () => {
    const [out, err] = [new Terminal(), new Terminal()]
    const live = liveText(out.stream(true), err.stream(false))
    live.write('text')
    live.status('status')
    live.end()
    expect([out.lines, err.lines]).toEqual([['text', ''], ['']])
  })
})
