import { run } from './run.js'

const controller: AbortController = new AbortController()
// Once: a second Ctrl-C ends the process at once, as without a handler.
process.once('SIGINT', () => controller.abort())
// A reader that goes away, such as `head`, has seen enough.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error
})

const exitCode = await run(process.argv.slice(2), {
  stdout: process.stdout,
  stderr: process.stderr,
  signal: controller.signal,
})
// Nothing is to be waited for but what was written: V8 would go on compiling onnxruntime-web for a quarter of a minute first.
for (const stream of [process.stdout, process.stderr]) await new Promise((resolve) => stream.write('', resolve))
process.exit(exitCode)
