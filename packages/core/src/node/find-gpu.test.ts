import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { brotliDecompressSync } from 'node:zlib'
import ts from 'typescript'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { readTar } from './cache.js'
import { findGpu } from './gpu.js'
import { hasSwiftShader } from './swiftshader.js'

// What findGpu does to a process (how it exits, what it prints, what it leaves on disk) needs processes of its own.
// They run this folder's source, transpiled, on SwiftShader.

const nodeModules = join(import.meta.dirname, '..', '..', 'node_modules')
let folder: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'find-gpu-test-'))
  await writeFile(join(folder, 'package.json'), '{"type":"module"}')
  for (const name of [
    'errors',
    ...['cache', 'dawn', 'gpu', 'packages', 'shared-memory', 'swiftshader'].map((n) => `node/${n}`),
  ]) {
    const source = await readFile(join(import.meta.dirname, '..', `${name}.ts`), 'utf8')
    const options = { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 }
    for (const package_ of ['complete', 'bare', 'no-software']) {
      const target = join(folder, package_, `${name}.js`)
      await mkdir(dirname(target), { recursive: true })
      await writeFile(target, ts.transpileModule(source, { compilerOptions: options }).outputText)
    }
  }
  await symlink(nodeModules, join(folder, 'complete', 'node_modules'))
  await mkdir(join(folder, 'no-software', 'node_modules'))
  await symlink(join(nodeModules, 'webgpu'), join(folder, 'no-software', 'node_modules', 'webgpu'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

interface Run {
  readonly code: number | string | null
  readonly stdout: string
  readonly stderr: string
}

/** Runs a program in a process with a home and temporary folder of its own. */
async function run(
  body: string,
  {
    packages = 'complete',
    env = {},
    before = '',
  }: { packages?: string; env?: NodeJS.ProcessEnv; before?: string } = {},
): Promise<Run> {
  const program = `${before}
    const { findGpu } = await import(${JSON.stringify(join(folder, packages, 'node', 'gpu.js'))})
    ${body}`
  const home = await mkdtemp(join(folder, 'home-'))
  const clean: NodeJS.ProcessEnv = { PATH: process.env.PATH, HOME: home, TMPDIR: home, ...env }
  return new Promise((resolve) => {
    const args = ['--expose-gc', '--input-type=module', '--eval', program]
    execFile(process.execPath, args, { env: clean, timeout: 50_000 }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : (error.code ?? error.signal ?? null), stdout, stderr })
    })
  })
}

/** From a `gpu`, makes a `device` and a `readBack()` that computes 2⁰, 2¹, … on it. */
const compute = `
  const device = await (await gpu.requestAdapter()).requestDevice()
  const module = device.createShaderModule({ code: \`
    @group(0) @binding(0) var<storage, read_write> x: array<u32>;
    @compute @workgroup_size(8) fn main(@builtin(global_invocation_id) id: vec3u) { x[id.x] = 1u << id.x; }\` })
  const pipeline = await device.createComputePipelineAsync({ layout: 'auto', compute: { module } })
  const results = device.createBuffer({ size: 32, usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC })
  const staging = device.createBuffer({ size: 32, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST })
  const entries = [{ binding: 0, resource: { buffer: results } }]
  const group = device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries })
  const submit = () => {
    const encoder = device.createCommandEncoder()
    const pass = encoder.beginComputePass()
    pass.setPipeline(pipeline)
    pass.setBindGroup(0, group)
    pass.dispatchWorkgroups(1)
    pass.end()
    encoder.copyBufferToBuffer(results, 0, staging, 0, 32)
    device.queue.submit([encoder.finish()])
  }
  const readBack = async () => {
    submit()
    await staging.mapAsync(GPUMapMode.READ)
    const values = [...new Uint32Array(staging.getMappedRange())]
    staging.unmap()
    return values.join()
  }`
const useGpu = `const { gpu } = await findGpu({ adapter: 'software', onNotice() {} }); ${compute}`
const powers = '1,2,4,8,16,32,64,128\n'

const softwareNotice = /sparse-attention: using a software adapter \(.*SwiftShader.*\) on the CPU/

describe.runIf(hasSwiftShader)('on SwiftShader', () => {
  test('several processes that start at once with an empty home all compute, and leave two files', async () => {
    const home = await mkdtemp(join(folder, 'home-'))
    const program = `${useGpu}; console.log(await readBack())`
    const runs = await Promise.all(Array.from({ length: 4 }, () => run(program, { env: { HOME: home } })))
    for (const result of runs) expect(result).toEqual({ code: 0, stdout: powers, stderr: '' })
    const cache = join(home, '.cache', 'sparse-attention')
    const [unpacked, ...others] = await readdir(cache)
    expect(others).toEqual([])
    expect((await readdir(join(cache, unpacked!))).sort()).toEqual(['dawn.node', 'libvulkan.so.1'])
  })

  test('a home that cannot be written: unpacks for this process only, and cleans up', async () => {
    const temporary = await mkdtemp(join(folder, 'tmp-'))
    const env = { HOME: '/dev/null/none', TMPDIR: temporary }
    expect(await run(`${useGpu}; console.log(await readBack())`, { env })).toEqual({
      code: 0,
      stdout: powers,
      stderr: '',
    })
    expect(await readdir(temporary)).toEqual([])
  })

  test('when nothing can be unpacked the error names both reasons and the way out', async () => {
    const env = { HOME: '/dev/null/home', TMPDIR: '/dev/null/tmp' }
    const report = `await findGpu({ adapter: 'software' }).catch((e) => console.log(e.code, e.message))`
    const { stdout } = await run(report, { env })
    expect(stdout).toMatch(/^WEBGPU_UNAVAILABLE .*\/dev\/null\/home.*\/dev\/null\/tmp.*XDG_CACHE_HOME/)
  })

  test.each([
    ['with a live device', 'console.log(await readBack())'],
    ['with a destroyed device', 'console.log(await readBack()); device.destroy()'],
    [
      'with a mapping under way',
      'console.log(await readBack()); submit(); staging.mapAsync(GPUMapMode.READ).catch(() => {})',
    ],
    ['by process.exit during work', 'console.log(await readBack()); submit(); process.exit(0)'],
    [
      'after a garbage collection',
      'console.log(await readBack()); for (let i = 0; i < 5; i++) { await new Promise((r) => setTimeout(r, 10)); gc() }',
    ],
  ])('the process ends by itself, without a crash, %s', async (_, end) => {
    expect(await run(`await (async () => { ${useGpu}; ${end} })()`)).toEqual({ code: 0, stdout: powers, stderr: '' })
  })

  test('a GPU that nobody holds any more does not crash the process', async () => {
    const imports = ['dawn', 'swiftshader'].map(
      (name) => `import(${JSON.stringify(join(folder, 'complete', 'node', `${name}.js`))})`,
    )
    const program = `
      const [{ createGpu, installGlobals }, { loadSwiftShader }] = await Promise.all([${imports}])
      const dawn = await loadSwiftShader()
      installGlobals(dawn)
      let gpu = createGpu(dawn)
      ${compute}
      gpu = undefined
      for (let i = 0; i < 5; i++) { await new Promise((r) => setTimeout(r, 10)); gc(); await readBack() }
      console.log(await readBack())`
    expect(await run(program)).toEqual({ code: 0, stdout: powers, stderr: '' })
  })

  test('the notice comes once, on stderr', async () => {
    const { code, stdout, stderr } = await run(
      `await findGpu({ adapter: 'software' }); await findGpu({ adapter: 'software' })`,
    )
    expect({ code, stdout }).toEqual({ code: 0, stdout: '' })
    expect(stderr.trim().split('\n')).toEqual([expect.stringMatching(softwareNotice)])
  })

  test('the notice can be heard instead', async () => {
    const { stdout, stderr } = await run(
      `await findGpu({ adapter: 'software', onNotice: (notice) => console.log(notice) })`,
    )
    expect(stdout).toMatch(softwareNotice)
    expect(stderr).toBe('')
  })

  describe('with a Vulkan loader on the system', () => {
    let system: string
    beforeAll(async () => {
      // The package's own loader stands in for the system's, found as the system's would be.
      const archive = await readFile(join(nodeModules, '@sparticuz', 'chromium', 'bin', 'swiftshader.tar.br'))
      system = await mkdtemp(join(folder, 'system-'))
      for (const [name, bytes] of readTar(brotliDecompressSync(archive))) await writeFile(join(system, name), bytes)
    })
    const env = (drivers: string) => ({ LD_LIBRARY_PATH: system, VK_ICD_FILENAMES: drivers })
    const noDriver = '/dev/null/driver.json'
    const cpuDriver = () => join(system, 'vk_swiftshader_icd.json')
    const collect = 'for (let i = 0; i < 5; i++) { await new Promise((r) => setTimeout(r, 10)); gc() }'

    test('without drivers: unpacks SwiftShader', async () => {
      const program = `${useGpu.replace("'software'", "'auto'")}; ${collect}; console.log(await readBack())`
      const { code, stdout, stderr } = await run(program, { env: env(noDriver) })
      expect({ code, stdout }).toEqual({ code: 0, stdout: powers })
      expect(stderr).toContain('Found no drivers') // Dawn's own warning: the loader was there and was asked
    })

    test('with a driver for the CPU: uses it, says so and unpacks nothing', async () => {
      const home = await mkdtemp(join(folder, 'home-'))
      const program = `${useGpu.replace("'software', onNotice() {}", "'auto'")}; console.log(await readBack())`
      const { code, stdout, stderr } = await run(program, { env: { HOME: home, ...env(cpuDriver()) } })
      expect({ code, stdout }).toEqual({ code: 0, stdout: powers })
      expect(stderr).toMatch(softwareNotice)
      expect(await readdir(home)).toEqual([])
    })

    test.each([
      ['no driver', () => noDriver, /^WEBGPU_UNAVAILABLE No GPU was found\. .*adapter: 'auto' or 'software'/],
      ['only a driver for the CPU', cpuDriver, /^WEBGPU_UNAVAILABLE No GPU was found, only SwiftShader/],
    ])("adapter 'hardware' is not replaced in silence: %s", async (_, driver, message) => {
      const report = `await findGpu({ adapter: 'hardware' }).catch((e) => console.log(e.code, e.message)); ${collect}`
      const { code, stdout } = await run(report, { env: env(driver()) })
      expect(stdout).toMatch(message)
      expect(code).toBe(0)
    })
  })

  test('globals that are there stay, the others are installed', async () => {
    const before = 'globalThis.GPUBufferUsage = { MINE: 1 }'
    const print = `await findGpu({ adapter: 'software', onNotice() {} }); console.log(GPUBufferUsage.MINE, GPUMapMode.READ)`
    expect((await run(print, { before })).stdout).toBe('1 1\n')
  })
})

describe('what is missing is named', () => {
  const report = (adapter: string) =>
    `await findGpu({ adapter: '${adapter}' }).catch((e) => console.log(e.code, e.message))`

  test.each(['auto', 'hardware', 'software'])('without the package webgpu, adapter %s', async (adapter) => {
    const { stdout } = await run(report(adapter), { packages: 'bare' })
    expect(stdout).toMatch(/^MISSING_DEPENDENCY .*webgpu.*npm install webgpu/)
  })

  test.runIf(hasSwiftShader)('without the package that carries SwiftShader', async () => {
    const { stdout } = await run(report('software'), { packages: 'no-software' })
    expect(stdout).toMatch(/^MISSING_DEPENDENCY .*@sparticuz\/chromium.*npm install @sparticuz\/chromium/)
  })

  test.each(['auto', 'hardware', 'software'])(
    'on a platform that webgpu has no build for, adapter %s',
    async (adapter) => {
      const before = `Object.defineProperty(process, 'platform', { value: 'sunos' })`
      const { stdout } = await run(report(adapter), { before })
      expect(stdout).toMatch(/^WEBGPU_UNAVAILABLE .*sunos/)
    },
  )

  test('an unknown adapter, as option or in the environment', async () => {
    await expect(findGpu({ adapter: 'fast' as never })).rejects.toMatchObject({ code: 'INVALID_OPTION' })
    const env = { SPARSE_ATTENTION_ADAPTER: 'fast' }
    const { stdout } = await run('await findGpu().catch((e) => console.log(e.code, e.message))', { env })
    expect(stdout).toMatch(/^INVALID_OPTION adapter is 'fast'.*'auto', 'hardware' or 'software'/)
  })
})
