import { type ErrorCode, SparseAttentionError } from '@sparse-attention/core'
import { CommanderError } from 'commander'
import { createProgram } from './program.js'
import { exitCodes, ReportedFailure, type Terminal } from './terminal.js'

/** Not the input's fault: the machine's, or a mistake in this project. */
const unexpectedCodes: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'DEVICE_LOST',
  'PIPELINE_FAILED',
  'DISPOSED',
  'BUSY',
  'STALE_PLAN',
  'WRONG_RUNTIME',
])

/**
 * Runs one command line to its end and tells its exit code. Nothing of the process is touched: no exit, no signal
 * handlers, no console.
 *
 * @param argv arguments after the program's name
 */
export async function run(argv: readonly string[], terminal: Terminal): Promise<number> {
  try {
    await createProgram(terminal).parseAsync(argv, { from: 'user' })
    return exitCodes.ok
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return exitCodes.ok // --help, --version
    if (error instanceof ReportedFailure) return error.exitCode
    const failure = describe(error, terminal.signal)
    terminal.stderr.write(`sparse-attention: ${failure.message}\n`)
    // Where the command line itself is wrong, the flag may not have been parsed.
    if (argv.includes('--json')) {
      const { code, message, fix } = failure
      terminal.stdout.write(`${JSON.stringify({ error: { code, message, fix } })}\n`)
    }
    if (failure.stack !== undefined) terminal.stderr.write(`${failure.stack}\n`)
    return failure.exitCode
  }
}

interface Failure {
  readonly exitCode: number
  readonly code: ErrorCode | 'CANCELLED' | 'UNEXPECTED'
  readonly message: string
  readonly fix: string
  /** Of errors that nobody foresaw. */
  readonly stack?: string
}

function describe(error: unknown, signal: AbortSignal): Failure {
  if (signal.aborted && error === signal.reason) {
    return { exitCode: exitCodes.cancelled, code: 'CANCELLED', message: 'Cancelled.', fix: 'Run it again.' }
  }
  if (error instanceof CommanderError) {
    const fix = 'Run it with --help to see what it takes.'
    const message = error.code === 'commander.help' ? 'Which verb?' : sentence(error.message.replace(/^error: /, ''))
    return { exitCode: exitCodes.badInput, code: 'INVALID_ARGUMENT', message: `${message} ${fix}`, fix }
  }
  if (SparseAttentionError.is(error)) {
    const { code, message, fix } = error
    return { exitCode: unexpectedCodes.has(code) ? exitCodes.unexpected : exitCodes.badInput, code, message, fix }
  }
  return {
    exitCode: exitCodes.unexpected,
    code: 'UNEXPECTED',
    message: sentence(error instanceof Error ? error.message : String(error)),
    fix: 'Report it with the lines above and the output of `sparse-attention doctor`.',
    ...(error instanceof Error && error.stack !== undefined ? { stack: error.stack } : {}),
  }
}

/** Commander's messages start small, end without a full stop, and have suggestions on a line of their own. */
function sentence(text: string): string {
  const line = text
    .trim()
    .replaceAll(/\s*\n\s*/g, ' ')
    .replace(/ \((Did you mean .*\?)\)$/, '. $1')
  const capital = line.charAt(0).toUpperCase() + line.slice(1)
  return /[.!?]$/.test(capital) ? capital : `${capital}.`
}
