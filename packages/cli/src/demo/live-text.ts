import type { Writable } from 'node:stream'

/** Text that grows on stdout, with a line about it below, on stderr, that changes. */
export interface LiveText {
  write(text: string): void
  status(line: string): void
  /** Takes the line off the screen and ends that of the text. May be called twice. */
  end(): void
}

type Screen = Writable & { readonly isTTY?: boolean; readonly columns?: number }

/**
 * The line is there only where stderr is a terminal. Where stdout is one too, they share a screen: the line stands below the
 * last line of the text, which is therefore broken here, not by the terminal, whose idea of where it is could differ.
 */
export function liveText(stdout: Screen, stderr: Screen): LiveText {
  if (!stderr.isTTY) return new PlainText(stdout)
  return stdout.isTTY ? new SharedScreen(stdout, stderr) : new StatusLine(stdout, stderr)
}

class PlainText implements LiveText {
  #open = false

  constructor(private readonly stdout: Screen) {}

  write(text: string): void {
    if (text === '') return
    this.stdout.write(text)
    this.#open = !text.endsWith('\n')
  }

  status(): void {}

  end(): void {
    if (this.#open) this.write('\n')
  }
}

/** The text goes elsewhere: stderr has the line to itself. */
class StatusLine extends PlainText {
  constructor(
    stdout: Screen,
    private readonly stderr: Screen,
  ) {
    super(stdout)
  }

  override status(line = ''): void {
    this.stderr.write(`\r\x1b[K${shorten(line, this.stderr.columns)}`)
  }

  override end(): void {
    this.stderr.write('\r\x1b[K')
    super.end()
  }
}

class SharedScreen implements LiveText {
  /** Cells of the last line of the text that are taken. */
  #column = 0
  #line = ''
  #shown = false

  constructor(
    private readonly stdout: Screen,
    private readonly stderr: Screen,
  ) {}

  write(text: string): void {
    this.#hide()
    this.stdout.write(this.#broken(text))
    this.#show()
  }

  status(line: string): void {
    this.#hide()
    this.#line = line
    this.#show()
  }

  end(): void {
    this.#hide()
    this.#line = ''
    if (this.#column > 0) this.stdout.write('\n')
    this.#column = 0
  }

  #show(): void {
    if (this.#line === '') return
    this.stderr.write(`\n${shorten(this.#line, this.stderr.columns)}`)
    this.#shown = true
  }

  /** Clears the line and goes back to the end of the text. */
  #hide(): void {
    if (!this.#shown) return
    const right = this.#column > 0 ? `\x1b[${this.#column}C` : ''
    this.stderr.write(`\r\x1b[K\x1b[1A${right}`)
    this.#shown = false
  }

  #broken(text: string): string {
    const width = (this.stdout.columns || 80) - 1
    let broken = ''
    // Words with the space before them: a space becomes the end of a line where the word no longer fits.
    for (const word of text.match(/\n|\s?[^\s]+|\s/gu) ?? []) {
      const cells = [...word].length
      if (word === '\n') {
        broken += word
        this.#column = 0
      } else if (this.#column + cells <= width) {
        broken += word
        this.#column += cells
      } else {
        const rest = word.trimStart()
        broken += `\n${rest}`
        this.#column = [...rest].length
      }
    }
    return broken
  }
}

function shorten(line: string, columns = 80): string {
  return line.slice(0, Math.max(0, columns - 1))
}
