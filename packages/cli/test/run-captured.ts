import { Writable } from 'node:stream'
import { run } from '../src/run.js'

export interface Captured {
  readonly exitCode: number
  readonly stdout: string
  readonly stderr: string
}

/**
 * Runs a command line in this process and keeps what it prints.
 *
 * @param screen stderr is a terminal: lines are drawn there that change
 */
export async function runCaptured(
  argv: readonly string[],
  signal: AbortSignal = new AbortController().signal,
  { screen = false }: { readonly screen?: boolean } = {},
): Promise<Captured> {
  const stdout = new Sink()
  const stderr = Object.assign(new Sink(), { isTTY: screen })
  const exitCode = await run(argv, { stdout, stderr, signal })
  return { exitCode, stdout: stdout.text, stderr: stderr.text }
}

class Sink extends Writable {
  text = ''

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.text += chunk.toString()
    done()
  }
}
