import { execFile } from 'node:child_process'

/**
 * What a WGSL compiler has against sources, one list of errors each: that of npm webgpu, with no GPU behind it. In a process
 * of its own, since Dawn prints every warning to stderr, and each use of an earlier syntax is one.
 *
 * @param dawn  path of another version's `index.js`
 */
export async function compileErrors(sources: readonly string[], dawn = 'webgpu'): Promise<string[][]> {
  const script = `
const { create, globals } = await import(${JSON.stringify(dawn)})
Object.assign(globalThis, globals)
const gpu = create(['backend=null', 'enable-dawn-features=allow_unsafe_apis'])
const adapter = await gpu.requestAdapter()
const device = await adapter.requestDevice({ requiredFeatures: ['shader-f16', 'subgroups', 'chromium-experimental-subgroup-matrix'] })
let input = ''
for await (const chunk of process.stdin) input += chunk
const errors = []
for (const code of JSON.parse(input)) {
  device.pushErrorScope('validation')
  const { messages } = await device.createShaderModule({ code }).getCompilationInfo()
  const error = await device.popErrorScope()
  const found = messages.filter(({ type }) => type === 'error').map(({ lineNum, message }) => lineNum + ': ' + message)
  errors.push(error && found.length === 0 ? [error.message] : found)
}
process.stdout.write('\\nERRORS' + JSON.stringify(errors), () => process.exit(0)) // with the adapter in scope: collecting it would crash
globalThis.kept = [gpu, adapter, device]
`
  return new Promise((resolve, reject) => {
    const child = execFile(
      process.execPath,
      ['--input-type=module', '-e', script],
      { cwd: import.meta.dirname, maxBuffer: 2 ** 28 },
      (error, stdout) => {
        const answer = stdout.split('\nERRORS')[1]
        if (answer) resolve(JSON.parse(answer))
        else reject(error ?? new Error('The compiler gave no answer.'))
      },
    )
    child.stdin!.end(JSON.stringify(sources))
  })
}
