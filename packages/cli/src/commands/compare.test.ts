import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { recall, relativeError } from '@sparse-attention/core'
import { makeInputs } from '@sparse-attention/testing'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseDocumented } from '../../test/documented-schemas.js'
import { floats, hostTensor } from '../../test/host-tensors.js'
import { findPanels, hex, pixels } from '../../test/picture-pixels.js'
import { refusal } from '../../test/refusal.js'
import { runCaptured } from '../../test/run-captured.js'
import { planColors } from '../figures/plan-picture.js'
import { readSafetensors, writeSafetensors } from '../safetensors/index.js'
import type { CompareReport, MethodComparison } from './compare.js'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'compare-'))
})
afterAll(() => rm(folder, { recursive: true }))

/** Two query heads a KV head, and more keys than queries. */
const shape = { batch: 1, queryHeads: 4, kvHeads: 2, queryLength: 190, keyLength: 254, headDim: 16 }
const low = ['--option', 'xattention.threshold=0.1', 'xattention.blockSize=64']

async function compared(argv: readonly string[]): Promise<CompareReport> {
  const { exitCode, stdout } = await runCaptured(['compare', ...argv, '--json'])
  expect(exitCode).toBe(0)
  return parseDocumented('compare', stdout) as CompareReport
}

it('takes a grid for methods that ask where tokens lie', { timeout: 60_000 }, async () => {
  const input = join(folder, 'grid.safetensors')
  const square = { ...shape, kvHeads: 4, queryLength: 64, keyLength: 64 }
  const { q, k, v } = makeInputs('gaussian', square, 'f32', 3)
  const tensor = (values: Parameters<typeof hostTensor>[2]) => hostTensor('F32', [1, 4, 64, 16], values)
  await writeSafetensors(input, { q: tensor(q), k: tensor(k), v: tensor(v) })
  const argv = ['--input', input, '--methods', 'bilevel-routing', '--repeat', '1', '--option']
  const options = ['bilevel-routing.regions=4', 'bilevel-routing.topK=2']
  const { methods } = await compared([...argv, ...options, '--grid', '8x8'])
  expect(methods[1]).toMatchObject({ method: 'bilevel-routing', path: 'sparse', density: 2 / 16 })
  expect(await refusal(['compare', ...argv, ...options])).toMatchObject({ message: expect.stringMatching(/grid/) })
})

describe.each(['f16', 'f32'] as const)('compare on %s', (dtype) => {
  const inputs = makeInputs('gaussian', shape, dtype, 11)
  let input: string

  beforeAll(async () => {
    const type = dtype === 'f16' ? 'F16' : 'F32'
    input = join(folder, `${dtype}.safetensors`)
    await writeSafetensors(input, {
      q: hostTensor(type, [1, 4, 190, 16], inputs.q),
      k: hostTensor(type, [1, 2, 254, 16], inputs.k),
      v: hostTensor(type, [1, 2, 254, 16], inputs.v),
    })
  })

  it('says what attend writes, dense first, seed 11', { timeout: 180_000 }, async () => {
    const report = await compared(['--input', input, '--methods', 'xattention', '--causal', '--repeat', '2', ...low])
    expect(report).toMatchObject({ shape: { ...shape, dtype, causal: true }, scaled: false, timedRuns: 2, png: null })
    expect(report.methods.map(({ method }) => method)).toEqual(['dense', 'xattention'])
    const [dense, sparse] = report.methods as [MethodComparison, MethodComparison]
    expect(dense).toMatchObject({ path: 'dense', density: 1, recall: 1, relativeError: 0, speedup: 1 })
    expect(sparse).toMatchObject({ path: 'sparse', options: { threshold: 0.1, stride: 16, blockSize: 64 } })
    for (const { runsMs, minMs, medianMs, maxMs } of report.methods) {
      expect(runsMs).toHaveLength(2)
      expect([minMs, maxMs]).toEqual([...runsMs].sort((a, b) => a - b))
      expect(medianMs).toBe((minMs + maxMs) / 2)
    }
    expect(sparse.speedup).toBe(dense.medianMs / sparse.medianMs)

    const attend = async (id: string, ...options: string[]) => {
      const output = join(folder, `${dtype}-${id}.safetensors`)
      const argv = ['attend', id, '--causal', '--mask', ...options, '--input', input, '--output', output]
      expect((await runCaptured(argv)).exitCode).toBe(0)
      const { tensors } = await readSafetensors(output)
      return {
        out: floats(tensors.get('out')!),
        lse: floats(tensors.get('lse')!),
        kept: tensors.get('mask')!.bytes.reduce((sum, bit) => sum + bit, 0),
      }
    }
    const exact = await attend('dense')
    const ours = await attend('xattention', '--option', 'threshold=0.1', 'blockSize=64')
    expect([dense.keptPairs, sparse.keptPairs]).toEqual([exact.kept, ours.kept])
    expect(sparse.density).toBe(ours.kept / exact.kept)
    expect(sparse.density).toBeLessThan(1)
    expect(sparse.recall).toBe(recall(ours.lse, exact.lse))
    expect(sparse.recall).toBeGreaterThan(0)
    expect(sparse.recall).toBeLessThan(1)
    expect(sparse.relativeError).toBe(relativeError(ours.out, exact.out))
    expect(sparse.relativeError).toBeGreaterThan(0)
  })

  it('finds no difference where a method keeps everything', async () => {
    // Dense stands first also where the list has it elsewhere.
    const argv = ['--input', input, '--methods', 'xattention,dense', '--repeat', '1']
    const { methods } = await compared([...argv, '--option', 'xattention.threshold=1'])
    expect(methods.map(({ method }) => method)).toEqual(['dense', 'xattention'])
    expect(methods[1]).toMatchObject({ path: 'dense', density: 1, recall: 1, relativeError: 0 })
  })
})

describe('compare', () => {
  let input: string
  beforeAll(async () => {
    const inputs = makeInputs('needle', shape, 'f32', 12)
    input = join(folder, 'any.safetensors')
    await writeSafetensors(input, {
      q: hostTensor('F32', [1, 4, 190, 16], inputs.q),
      k: hostTensor('F32', [1, 2, 254, 16], inputs.k),
      v: hostTensor('F32', [1, 2, 254, 16], inputs.v),
    })
  })
  const withInput = (...argv: string[]): string[] => ['--input', input, '--repeat', '1', ...argv]

  it('draws a panel for every method and head, and says the same in words', async () => {
    const png = join(folder, 'plans.png')
    const argv = withInput('--methods', 'xattention', '--causal', '--png', png, ...low)
    const { exitCode, stdout } = await runCaptured(['compare', ...argv])
    expect(exitCode).toBe(0)
    expect(stdout).toMatch(/^batch 1, heads 4 over 2, length 190×254, head_dim 16, f32, causal\n/)
    expect(stdout).toMatch(/\ndense +dense +1\.0000 +1\.0000 +0 +[\d.]+ +[\d.]+–[\d.]+ +1\.00× as fast\n/)
    expect(stdout).toMatch(/\nxattention +sparse +0\.\d{4} +0\.\d{4} +\d\.\d\de[+-]\d /)
    expect(stdout).toMatch(/\nxattention: threshold 0\.1, stride 16, blockSize 64\n/)
    expect(stdout).toMatch(/1 run after one that is not counted/)
    expect(stdout).toContain(`Picture: ${png}\n`)

    const image = await pixels(png)
    const corners = findPanels(image)
    const columns = [...new Set(corners.map(([x]) => x))]
    const rows = [...new Set(corners.map(([, y]) => y))]
    expect([corners.length, columns.length, rows.length]).toEqual([8, 4, 2])
    const skipped = hex(planColors.skipped)
    const skippedRows: number[] = []
    for (let y = rows[0]!; y < image.height; y++) {
      for (let x = 0; x < image.width; x++) if (image.at(x, y) === skipped) skippedRows.push(y)
    }
    expect(skippedRows.length).toBeGreaterThan(0)
    expect(Math.min(...skippedRows), 'dense, the upper row, skips nothing').toBeGreaterThanOrEqual(rows[1]!)
  })

  it("takes each method's budgets for the length, and options that are given over them", async () => {
    const argv = withInput('--methods', 'xattention', '--scaled')
    const scaled = await compared(argv)
    expect(scaled.scaled).toBe(true)
    expect(scaled.methods[1]!.options).toEqual({ threshold: 0.95, stride: 8, blockSize: 64 })
    const given = await compared([...argv, '--option', 'xattention.stride=4'])
    expect(given.methods[1]!.options).toEqual({ threshold: 0.95, stride: 4, blockSize: 64 })
    const defaults = await compared(withInput('--methods', 'xattention'))
    expect(defaults.methods[1]!.options).toEqual({ threshold: 0.9, stride: 16, blockSize: 128 })
  })

  const x = ['--methods', 'xattention']
  it.each<[string, string[], string, RegExp]>([
    ['no methods', [], 'INVALID_ARGUMENT', /'--methods <a,b,...>' not specified/],
    ['an unknown method', ['--methods', 'xattention,nothing'], 'INVALID_ARGUMENT', /no method 'nothing'. Use one of dense, /], // biome-ignore format: a row a case
    ['an empty name', ['--methods', 'xattention,'], 'INVALID_ARGUMENT', /no method ''/],
    ['a method twice', ['--methods', 'xattention,dense,xattention'], 'INVALID_ARGUMENT', /'xattention' is listed twice/], // biome-ignore format: a row a case
    ['an option of no method', [...x, '--option', 'threshold=0.5'], 'INVALID_OPTION', /'threshold' names no method/],
    [
      'an option of a method that is not compared',
      ['--methods', 'dense', '--option', 'xattention.stride=8'],
      'INVALID_OPTION',
      /'xattention.stride' is for 'xattention', which is not compared/,
    ],
    ['an option that dense lacks', [...x, '--option', 'dense.stride=8'], 'INVALID_OPTION', /dense has no option/],
    ['an unknown option', [...x, '--option', 'xattention.a=1'], 'INVALID_OPTION', /xattention has no option 'a'/],
    ['an option without a value', [...x, '--option', 'xattention.stride'], 'INVALID_OPTION', /'xattention.stride' has no value. Write xattention.stride=16/], // biome-ignore format: a row a case
    ['an option twice', [...x, '--option', 'xattention.stride=4', 'xattention.stride=8'], 'INVALID_OPTION', /'xattention.stride' is given twice/], // biome-ignore format: a row a case
    ['an option out of range', [...x, '--option', 'xattention.threshold=2'], 'INVALID_OPTION', /'threshold' is 2/],
    ['no repeats', [...x, '--repeat', '0'], 'INVALID_ARGUMENT', /integer of at least 1/],
    ['an unknown tier', [...x, '--tier', 'best'], 'INVALID_ARGUMENT', /Allowed choices are/],
    ['a picture in no folder', [...x, '--png', '/no/such/folder/x.png'], 'INVALID_FILE', /cannot be written \(ENOENT\)/], // biome-ignore format: a row a case
    ['a missing file', [...x, '--input', '/no/such/file'], 'INVALID_FILE', /there is no such file/],
  ])('refuses %s', async (_, argv, code, says) => {
    const error = await refusal(['compare', ...withInput(...argv)])
    expect(error.code).toBe(code)
    expect(error.message).toMatch(says)
  })

  it('refuses tensors that the methods do not take', async () => {
    const odd = hostTensor('F32', [1, 1, 4, 12], new Array(48).fill(0.5))
    const path = join(folder, 'odd.safetensors')
    await writeSafetensors(path, { q: odd, k: odd, v: odd })
    const error = await refusal(['compare', '--input', path, ...x])
    expect(error).toMatchObject({ code: 'UNSUPPORTED', message: expect.stringMatching(/headDim 12/) })
  })

  it('stops when cancelled, and leaves no picture', async () => {
    const own = await mkdtemp(join(folder, 'own-'))
    const argv = ['compare', ...withInput(...x, '--png', join(own, 'x.png')), '--json']
    const { exitCode, stdout } = await runCaptured(argv, AbortSignal.abort())
    expect(exitCode).toBe(130)
    expect(parseDocumented('error', stdout)).toMatchObject({ error: { code: 'CANCELLED' } })
    expect(await readdir(own)).toEqual([])
  })
})
