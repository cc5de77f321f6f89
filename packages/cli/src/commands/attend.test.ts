import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expectAttentionClose, makeInputs } from '@sparse-attention/testing'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseDocumented } from '../../test/documented-schemas.js'
import { floats, hostTensor } from '../../test/host-tensors.js'
import { refusal as refused } from '../../test/refusal.js'
import { runCaptured } from '../../test/run-captured.js'
import { type HostTensor, readSafetensors, type SafetensorsDType, writeSafetensors } from '../safetensors/index.js'
import type { AttendReport } from './attend.js'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'attend-'))
})
afterAll(() => rm(folder, { recursive: true }))

/** Two query heads a KV head, and more keys than queries, so that bottom-right causality shows. */
const shape = { batch: 1, queryHeads: 4, kvHeads: 2, queryLength: 190, keyLength: 254, headDim: 16 }
const qShape = [1, 4, 190, 16]
const kvShape = [1, 2, 254, 16]

describe.each(['f16', 'f32'] as const)('attend on %s', (dtype) => {
  const type = dtype === 'f16' ? 'F16' : 'F32'
  const inputs = makeInputs('needle', shape, dtype, 7)
  let input: string

  beforeAll(async () => {
    input = join(folder, `${dtype}.safetensors`)
    await writeSafetensors(input, {
      q: hostTensor(type, qShape, inputs.q),
      k: hostTensor(type, kvShape, inputs.k),
      v: hostTensor(type, kvShape, inputs.v),
    })
  })

  it('writes what float64 gives over the mask it writes, seed 7', async () => {
    const output = join(folder, `${dtype}-out.safetensors`)
    const { exitCode, stdout } = await runCaptured(
      `attend xattention --causal --option threshold=0.1 blockSize=64 --mask --json --input ${input} --output ${output}`.split(
        ' ',
      ),
    )
    expect(exitCode).toBe(0)
    const report = parseDocumented('attend', stdout) as AttendReport
    expect(report).toMatchObject({
      method: 'xattention',
      options: { threshold: 0.1, stride: 16, blockSize: 64 },
      shape: { ...shape, dtype, causal: true },
      path: 'sparse',
    })
    expect(report.runsMs).toHaveLength(1)

    const { tensors, metadata } = await readSafetensors(output)
    expect(metadata).toMatchObject({ method: 'xattention', causal: 'true' })
    const [out, lse, mask] = ['out', 'lse', 'mask'].map((name) => tensors.get(name)!) as [
      HostTensor,
      HostTensor,
      HostTensor,
    ]
    expect([out.dtype, lse.dtype, mask.dtype]).toEqual([type, 'F32', 'U8'])
    expect([out.shape, lse.shape, mask.shape]).toEqual([qShape, [1, 4, 190], [1, 4, 190, 254]])
    const kept = mask.bytes.reduce((sum, bit) => sum + bit, 0)
    expect(kept).toBe(report.keptPairs)
    expect(report.density).toBeCloseTo(kept / report.visiblePairs, 12)
    expect(report.density).toBeLessThan(0.8)
    expectAttentionClose(
      { out: floats(out), lse: floats(lse) },
      { ...shape, ...inputs, dtype, scale: 1 / 4, mask: mask.bytes, name: `attend ${dtype}` },
    )
  })

  it('runs dense as a method, timed over repeats', async () => {
    const output = join(folder, `${dtype}-dense.safetensors`)
    const { exitCode, stdout, stderr } = await runCaptured(
      `attend dense --repeat 2 --tier portable --input ${input} --output ${output}`.split(' '),
    )
    expect({ exitCode, stderr: stderr.replace(/^sparse-attention: using a software adapter.*\n/, '') }).toEqual({
      exitCode: 0,
      stderr: '',
    })
    expect(stdout).toMatch(/^method +dense plan="block" kernel="flash"\n/)
    expect(stdout).toMatch(/^path +dense\ndensity +1\.0000 \(193040 of 193040 pairs\)\ntime .* \(median of 2\)$/m)
    const { tensors } = await readSafetensors(output)
    expect([...tensors.keys()].sort()).toEqual(['lse', 'out'])
    expectAttentionClose(
      { out: floats(tensors.get('out')!), lse: floats(tensors.get('lse')!) },
      { ...shape, ...inputs, dtype, scale: 1 / 4, mask: 'none', name: `attend dense ${dtype}` },
    )
  })
})

describe('attend on an image', () => {
  it('tells the method where tokens lie, and refuses without', async () => {
    const tokens = hostTensor('F32', [1, 1, 4, 8], new Array(32).fill(0.5))
    const input = join(folder, 'image.safetensors')
    await writeSafetensors(input, { q: tokens, k: tokens, v: tokens })
    const argv = [
      'shifted-windows',
      '--option',
      'window=2',
      '--input',
      input,
      '--output',
      join(folder, 'windows.safetensors'),
    ]
    const { exitCode, stdout } = await runCaptured(['attend', ...argv, '--grid', '1,4', '--json'])
    expect(exitCode).toBe(0)
    expect(parseDocumented('attend', stdout)).toMatchObject({ path: 'sparse', density: 0.5 })
    expect(await refused(['attend', ...argv])).toMatchObject({ code: 'INVALID_ARGUMENT' })
    expect((await runCaptured(['attend', ...argv, '--grid', '4'])).stderr).toMatch(/two or three positive integers/)
  })
})

describe('attend refuses', () => {
  const good = hostTensor('F32', [1, 1, 4, 8], new Array(32).fill(0.5))
  const make = async (name: string, tensors: Record<string, HostTensor>): Promise<string> => {
    const path = join(folder, `${name}.safetensors`)
    await writeSafetensors(path, tensors)
    return path
  }
  let input: string
  beforeAll(async () => {
    input = await make('good', { q: good, k: good, v: good })
  })
  const other = (dtype: SafetensorsDType, tensorShape: number[]): HostTensor =>
    hostTensor(dtype, tensorShape, new Array(tensorShape.reduce((a, b) => a * b, 1)).fill(0.5))

  const refusal = (argv: readonly string[]) => refused(['attend', ...argv])

  const bf16: HostTensor = { dtype: 'BF16', shape: [1, 1, 4, 8], bytes: new Uint8Array(64) }
  it.each<[string, Record<string, HostTensor>, string, RegExp]>([
    ['no tensor k', { q: good, v: good }, 'INVALID_FILE', /no tensor "k" \(it has "q", "v"\)/],
    ['three axes', { q: other('F32', [4, 4, 8]), k: good, v: good }, 'INVALID_SHAPE', /q, k and v need four axes/],
    ['an empty axis', { q: other('F32', [1, 0, 4, 8]), k: good, v: good }, 'INVALID_SHAPE', /an axis is empty/],
    ['another batch', { q: other('F32', [2, 1, 4, 8]), k: good, v: good }, 'INVALID_SHAPE', /batch sizes differ/],
    ['another head dim', { q: other('F32', [1, 1, 4, 16]), k: good, v: good }, 'INVALID_SHAPE', /head dims differ/],
    ['k unlike v', { q: good, k: other('F32', [1, 1, 5, 8]), v: good }, 'INVALID_SHAPE', /k and v differ/],
    [
      'KV heads that do not divide',
      { q: other('F32', [1, 3, 4, 8]), k: other('F32', [1, 2, 4, 8]), v: other('F32', [1, 2, 4, 8]) },
      'INVALID_SHAPE',
      /2 KV heads do not divide 3 query heads/,
    ],
    ['bf16', { q: bf16, k: bf16, v: bf16 }, 'INVALID_DTYPE', /q, k and v are BF16, BF16, BF16/],
    ['two dtypes', { q: other('F16', [1, 1, 4, 8]), k: good, v: good }, 'INVALID_DTYPE', /are F16, F32, F32/],
    [
      'an infinite element',
      { q: good, k: good, v: hostTensor('F32', [1, 1, 4, 8], [...new Array(31).fill(0), Number.POSITIVE_INFINITY]) },
      'INVALID_FILE',
      /element 31 of v is infinite or not a number/,
    ],
    [
      'a half that is not a number',
      {
        q: other('F16', [1, 1, 4, 8]),
        k: hostTensor('F16', [1, 1, 4, 8], [0, Number.NaN, ...new Array(30).fill(0)]),
        v: other('F16', [1, 1, 4, 8]),
      },
      'INVALID_FILE',
      /element 1 of k is infinite or not a number/,
    ],
    [
      'a head dim that no kernel takes',
      { q: other('F32', [1, 1, 4, 12]), k: other('F32', [1, 1, 4, 12]), v: other('F32', [1, 1, 4, 12]) },
      'UNSUPPORTED',
      /headDim 12/,
    ],
  ])('%s', async (name, tensors, code, says) => {
    const path = await make(name.replaceAll(' ', '-'), tensors)
    const error = await refusal(['dense', '--input', path, '--output', join(folder, 'never.safetensors')])
    expect(error.code).toBe(code)
    expect(error.message).toMatch(says)
  })

  it.each<[string, (path: string) => string, string, RegExp]>([
    ['an unknown method', (path) => `nothing --input ${path} --output o`, 'INVALID_ARGUMENT', /Use one of dense, /],
    ['no input', () => 'dense --output o', 'INVALID_ARGUMENT', /'--input <file>' not specified/],
    ['no output', (path) => `dense --input ${path}`, 'INVALID_ARGUMENT', /'--output <file>' not specified/],
    [
      'an unknown flag',
      (path) => `dense --fast --input ${path} --output o`,
      'INVALID_ARGUMENT',
      /unknown option '--fast'/i,
    ],
    ['a missing file', () => 'dense --input /no/such/file --output o', 'INVALID_FILE', /there is no such file/],
    [
      'an unknown tier',
      (path) => `dense --tier best --input ${path} --output o`,
      'INVALID_ARGUMENT',
      /Allowed choices are/,
    ],
    [
      'no repeats',
      (path) => `dense --repeat 0 --input ${path} --output o`,
      'INVALID_ARGUMENT',
      /integer of at least 1/,
    ],
    ['an unknown option', (path) => `dense --option a=1 --input ${path} --output o`, 'INVALID_OPTION', /no option 'a'/],
    [
      'an option out of range',
      (path) => `xattention --option threshold=1.5 --input ${path} --output o`,
      'INVALID_OPTION',
      /'threshold' is 1.5.*from 0 to 1/,
    ],
    [
      'a folder that is not there',
      (path) => `dense --input ${path} --output /no/such/folder/o`,
      'INVALID_FILE',
      /cannot be written \(ENOENT\)/,
    ],
    [
      'a folder as output',
      (path) => `dense --input ${path} --output /tmp`,
      'INVALID_FILE',
      /cannot be written \(EISDIR\)/,
    ],
  ])('%s', async (_, argv, code, says) => {
    const error = await refusal(argv(input).split(' '))
    expect(error.code).toBe(code)
    expect(error.message).toMatch(says)
  })

  it('a tier that the device does not offer or this version does not have', async () => {
    const doctor = await runCaptured(['doctor', '--json'])
    const { tiers } = JSON.parse(doctor.stdout) as { tiers: { tier: string; usable: boolean }[] }
    for (const { tier, usable } of tiers) {
      if (usable) continue
      const argv = ['dense', '--tier', tier, '--input', input, '--output', join(folder, 'never.safetensors')]
      expect((await refusal(argv)).code).toBe('TIER_UNAVAILABLE')
    }
  })

  it('a mask that no file should hold, before it computes anything', async () => {
    const long = other('F32', [1, 1, 46341, 8])
    const path = await make('long', { q: long, k: long, v: long })
    const argv = ['dense', '--mask', '--input', path, '--output', join(folder, 'never.safetensors')]
    const error = await refusal(argv)
    expect(error).toMatchObject({ code: 'LIMIT_EXCEEDED' })
    expect(error.message).toMatch(/2147488281 bytes/)
  })

  it('work that was cancelled, and leaves no file', async () => {
    const own = await mkdtemp(join(folder, 'own-'))
    const argv = ['attend', 'dense', '--input', input, '--output', join(own, 'never.safetensors'), '--json']
    const { exitCode, stdout, stderr } = await runCaptured(argv, AbortSignal.abort())
    expect(exitCode).toBe(130)
    expect(parseDocumented('error', stdout)).toMatchObject({ error: { code: 'CANCELLED' } })
    expect(stderr).toBe('sparse-attention: Cancelled.\n')
    expect(await readdir(own)).toEqual([])
  })

  it('a file that is no safetensors file, in words', async () => {
    const path = join(folder, 'words.safetensors')
    await writeFile(path, 'these are words, not tensors')
    const { exitCode, stdout, stderr } = await runCaptured(['attend', 'dense', '--input', path, '--output', 'o'])
    expect(exitCode).toBe(2)
    expect(stdout).toBe('')
    expect(stderr).toMatch(/^sparse-attention: .*words\.safetensors is not a usable safetensors file: .*\n$/)
  })
})
