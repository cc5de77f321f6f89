import { Command } from 'commander'
import { attendCommand } from './commands/attend.js'
import { benchCommand } from './commands/bench.js'
import { compareCommand } from './commands/compare.js'
import { demoDecodeCommand } from './commands/demo-decode.js'
import { demoGenerateCommand } from './commands/demo-generate.js'
import { demoPrefillCommand } from './commands/demo-prefill.js'
import { demoTasksCommand } from './commands/demo-tasks.js'
import { demoVideoCommand } from './commands/demo-video.js'
import { demoVisionCommand } from './commands/demo-vision.js'
import { doctorCommand } from './commands/doctor.js'
import { methodsCommand } from './commands/methods.js'
import { tuneCommand } from './commands/tune.js'
import { liveText } from './demo/live-text.js'
import { cliVersion } from './package-info.js'
import { progressBar } from './progress.js'
import type { Output, Terminal } from './terminal.js'

/** The command line: verbs and their options. Errors are thrown, for `run` to report. */
export function createProgram(terminal: Terminal): Command {
  const output = (json: boolean): Output => ({
    json,
    signal: terminal.signal,
    log: (line) => terminal.stderr.write(`${line}\n`),
    result: (value, text) => terminal.stdout.write(`${json ? JSON.stringify(value) : text}\n`),
    liveText: () => (json ? { write() {}, status() {}, end() {} } : liveText(terminal.stdout, terminal.stderr)),
    progress: (total) => progressBar(terminal.stderr, total, !json),
  })
  const program = new Command('sparse-attention')
    .description(
      'Sparse attention on WebGPU: look at this machine, list methods, run and compare them on your tensors, time them, see a demo.',
    )
    .version(cliVersion)
    .addHelpText(
      'after',
      `
A verb says more with --help, such as \`sparse-attention demo vision --help\`. Results go to stdout, as one JSON object with --json.
Exit codes: 0 done, 1 unexpected, 2 bad input, 130 cancelled. Documentation:
https://github.com/sparse-attention/sparse-attention/blob/main/docs/cli.md`,
    )
    // What follows a verb is the verb's: `bench` and `bench table` have options of the same names.
    .enablePositionalOptions()
  const demo = program.command('demo').description('a model, dense and sparse, side by side')
  for (const command of [
    demoPrefillCommand,
    demoTasksCommand,
    demoGenerateCommand,
    demoDecodeCommand,
    demoVideoCommand,
    demoVisionCommand,
  ])
    demo.addCommand(command(output))
  for (const command of [doctorCommand, methodsCommand, attendCommand, compareCommand, benchCommand, tuneCommand])
    program.addCommand(command(output))
  for (const command of family(program)) {
    command.exitOverride().configureOutput({
      writeOut: (text) => terminal.stdout.write(text),
      writeErr: (text) => terminal.stderr.write(text),
      outputError: () => {}, // `run` reports
    })
  }
  return program
}

function family(command: Command): Command[] {
  return [command, ...command.commands.flatMap(family)]
}
