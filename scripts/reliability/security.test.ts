import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { promisify } from 'node:util'
import {
  createRuntime,
  type MethodOptions,
  type OptionSpec,
  type Runtime,
  SparseAttentionError,
} from '@sparse-attention/core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { writeSafetensors } from '../../packages/cli/src/safetensors/index.js'
import { runCaptured } from '../../packages/cli/test/run-captured.js'
import { everyMethod } from './every-method.js'

const root = join(import.meta.dirname, '..', '..')

/** Sources that run where users are: packages and apps, without their tests. */
const sources: { readonly file: string; readonly text: string }[] = []
beforeAll(async () => {
  const { stdout } = await promisify(execFile)('git', ['ls-files', 'kernels', 'packages', 'apps'], {
    cwd: root,
    maxBuffer: 2 ** 26,
  })
  const isSource = (file: string) =>
    /\.(ts|tsx|mjs|js)$/.test(file) &&
    !/\.test\.tsx?$|\/test\/|\/test-[^/]+$|packages\/testing\/|\/recipes\/|\/checkpoints\//.test(file)
  for (const file of stdout.split('\n').filter(isSource)) {
    const text = await readFile(join(root, file), 'utf8').catch(() => '')
    // Without comments, which may name anything.
    sources.push({ file, text: text.replace(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, '') })
  }
})

/** Files in which a pattern stands. */
const filesWith = (pattern: RegExp) => sources.filter(({ text }) => pattern.test(text)).map(({ file }) => file)

describe('sources', () => {
  test('there are some', () => {
    expect(sources.length).toBeGreaterThan(300)
    expect(filesWith(/class Runtime/)).toContain('packages/core/src/runtime.ts')
  })

  test.each<[string, RegExp]>([
    ['eval', /(?<![\w.#$])eval\s*\(/],
    ['a Function made of text', /new\s+Function\s*\(|(?<![\w.#$])Function\s*\(/],
    ['a timer of text', /set(?:Timeout|Interval)\s*\(\s*['"`]/],
    ['HTML made of text', /\.(?:innerHTML|outerHTML)\s*=|dangerouslySetInnerHTML|insertAdjacentHTML|document\.write/],
    ['a script or link from another host', /import\s*\(\s*['"`]https?:|importScripts\s*\(/],
    ['a module whose name is put together', /import\s*\(\s*`/],
    ['a command for a shell', /\bexecSync?\s*\(\s*['"`]|shell:\s*true/],
  ])('have no %s', (_, pattern) => {
    expect(filesWith(pattern)).toEqual([])
  })

  test('hand WGSL to the device in two places: compiled kernels, and the question which dialect it speaks', () => {
    expect(filesWith(/createShaderModule/)).toEqual(['packages/core/src/pipelines.ts', 'packages/core/src/tiers.ts'])
  })

  test('make kernels from emitters of their own alone: none takes WGSL from a caller', () => {
    const methods = filesWith(/defineMethod[<(]/).filter((file) => file.startsWith('packages/'))
    expect(methods.length).toBeGreaterThan(8)
    for (const file of methods)
      expect(sources.find((one) => one.file === file)!.text, file).not.toMatch(/@compute|@group/)
  })

  test('write files in few places', () => {
    const writers = filesWith(
      /\b(?:writeFile|appendFile|createWriteStream|mkdir|mkdtemp|copyFile|symlink|cp)(?:Sync)?\s*\(|\bopen\([^)]*'w/,
    )
    expect(writers.filter((file) => !file.startsWith('apps/'))).toEqual([
      'packages/cli/src/bench/result-folder.ts', // the folder of --out
      'packages/cli/src/commands/bench-table.ts', // the same
      'packages/cli/src/commands/bench-video.ts', // the same
      'packages/cli/src/files.ts', // what --output, --out and --save name
      'packages/core/src/node/cache.ts', // the driver on the CPU, unpacked into the user's cache folder
      'packages/core/src/node/swiftshader.ts', // or into a temporary one
      'packages/core/src/node/tuning-file.ts', // `tune --save`, and nothing else
    ])
  })
})

/** What might be let through into WGSL as it stands. */
const hostile: unknown[] = [
  '64',
  '1; } fn evil() { loop {} } //',
  '',
  Number.NaN,
  Number.POSITIVE_INFINITY,
  Number.NEGATIVE_INFINITY,
  2 ** 60,
  -(2 ** 40) - 0.5,
  null,
  true,
  {},
  [],
  [[]],
  ['64'],
  [['64']],
  [[Number.NaN]],
  [[0.5], [0.5, 0.5]],
  { toString: () => '64', valueOf: () => 64 },
  Object.assign([[64]], { toString: () => 'evil' }),
  () => 64,
  64n,
]

describe('WGSL is made of checked numbers', () => {
  let runtime: Runtime
  const modules: string[] = []
  beforeAll(async () => {
    runtime = await createRuntime()
    const { device } = runtime
    const { createShaderModule } = device
    device.createShaderModule = (descriptor) => {
      modules.push(descriptor.code)
      return createShaderModule.call(device, descriptor)
    }
  })
  afterAll(() => runtime.dispose())

  const fits = (spec: OptionSpec, value: unknown): boolean => {
    if (spec.type === 'choice') return spec.choices.includes(value as never)
    const { min = Number.NEGATIVE_INFINITY, max = Number.POSITIVE_INFINITY } = spec
    const number = (x: unknown) => typeof x === 'number' && Number.isFinite(x) && x >= min && x <= max
    if (spec.type === 'number') return number(value) && (!spec.integer || Number.isSafeInteger(value))
    return (
      number(value) ||
      (Array.isArray(value) &&
        value.length > 0 &&
        value.every(
          (row) => Array.isArray(row) && row.length > 0 && row.length === value[0].length && row.every(number),
        ))
    )
  }

  test.each(everyMethod.map((method) => [method.definition.id, method] as const))(
    '%s refuses options that are none before it makes any',
    (_, method) => {
      let refused = 0
      for (const [name, spec] of Object.entries<OptionSpec>(method.definition.options)) {
        for (const value of hostile) {
          if (fits(spec, value)) continue
          const make = () => method({ [name]: value } as unknown as Partial<MethodOptions>)
          expect(make, `${name} = ${typeof value}`).toThrow(
            expect.objectContaining({ code: 'INVALID_OPTION', where: name }),
          )
          refused++
        }
      }
      for (const name of ['__proto__x', 'constructor', 'toString', 'code']) {
        expect(() => method({ [name]: 1 } as never)).toThrow(expect.objectContaining({ code: 'INVALID_OPTION' }))
      }
      if (Object.keys(method.definition.options).length > 0) expect(refused).toBeGreaterThan(10)
    },
  )

  test.each(everyMethod.map((method) => [method.definition.id, method] as const))(
    '%s refuses configurations that are none before it compiles',
    async (_, method) => {
      const { capabilities } = method.definition
      const headDim = capabilities.headDim.multipleOf
      const usual = {
        queryHeads: 1,
        kvHeads: 1,
        headDim,
        dtype: capabilities.dtypes[0]!,
        causal: capabilities.causal[0]!,
      }
      modules.length = 0
      for (const name of ['queryHeads', 'kvHeads', 'headDim', 'dtype', 'causal', 'scale', 'pageSize']) {
        for (const value of hostile) {
          // Left out: the default.
          if (value === null && ['kvHeads', 'scale'].includes(name)) continue
          if (value === true && name === 'causal') continue
          if (name === 'scale' && typeof value === 'number' && Number.isFinite(value)) continue
          const config = { ...usual, [name]: value }
          const error: unknown = await runtime.use(method(), config as never).then(
            (attention) => attention.dispose(),
            (thrown: unknown) => thrown,
          )
          expect(SparseAttentionError.is(error), `${name} = ${typeof value} ${error}`).toBe(true)
        }
      }
      expect(modules).toEqual([])
    },
  )
})

describe('the command line writes only where it is told', () => {
  let folder: string
  const { cwd, env } = { cwd: process.cwd(), env: { ...process.env } }
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'sparse-attention-writes-'))
    for (const name of ['home', 'work', 'told']) await mkdir(join(folder, name))
    Object.assign(process.env, { HOME: join(folder, 'home'), TMPDIR: join(folder, 'home') })
    for (const name of ['XDG_CACHE_HOME', 'XDG_CONFIG_HOME']) delete process.env[name]
    process.chdir(join(folder, 'work'))
    const tensor = {
      dtype: 'F32' as const,
      shape: [1, 1, 80, 16],
      bytes: new Uint8Array(new Float32Array(1280).fill(0.1).buffer),
    }
    await writeSafetensors(join(folder, 'input.safetensors'), { q: tensor, k: tensor, v: tensor })
  })
  afterAll(async () => {
    process.chdir(cwd)
    Object.assign(process.env, env)
    await rm(folder, { recursive: true })
  })

  const files = async (): Promise<string[]> => {
    const found = await readdir(folder, { recursive: true, withFileTypes: true })
    return found
      .filter((one) => one.isFile())
      .map((one) => relative(folder, join(one.parentPath, one.name)))
      .sort()
  }

  const attend = (output: string, input = '../input.safetensors') => [
    'attend',
    'dense',
    '--input',
    input,
    '--output',
    output,
  ]
  const verbs: readonly (readonly [argv: string[], exitCode: number, files: readonly string[]])[] = [
    [['methods', '--json'], 0, []],
    [['doctor', '--json'], 0, []],
    [attend('../told/out.safetensors'), 0, ['told/out.safetensors']],
    [
      [
        'compare',
        '--input',
        '../input.safetensors',
        '--methods',
        'dense',
        '--repeat',
        '1',
        '--png',
        '../told/plans.png',
      ],
      0,
      ['told/plans.png'],
    ],
    [['compare', '--input', '../input.safetensors', '--methods', 'dense', '--repeat', '1', '--json'], 0, []],
    [attend('../told/none.safetensors', '../none.safetensors'), 2, []],
    [attend('../nowhere/out.safetensors'), 2, []],
  ]
  test.each(verbs)('%j', async (argv, exitCode, written) => {
    const before = await files()
    const result = await runCaptured(argv)
    expect(result.exitCode, result.stderr).toBe(exitCode)
    // The driver on the CPU is unpacked once, into the user's cache.
    const made = (await files()).filter(
      (file) => !before.includes(file) && !/^home\/\.cache\/sparse-attention\//.test(file),
    )
    expect(made).toEqual(written)
  })

  test('what cannot be written is a typed error', async () => {
    await writeFile(join(folder, 'told', 'file'), '')
    const { exitCode, stderr } = await runCaptured(attend('../told/file/out.safetensors'))
    expect([exitCode, stderr]).toEqual([2, expect.stringContaining('cannot be written')])
  })
})
