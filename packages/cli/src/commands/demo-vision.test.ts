import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { packageFolder } from '@sparse-attention/models/node'
import sharp from 'sharp'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { parseDocumented } from '../../test/documented-schemas.js'
import type { Photo } from '../../test/photos.js'
import { runCaptured } from '../../test/run-captured.js'
import type { DemoVisionReport } from './demo-vision.js'

const photos = join(packageFolder(), 'photos')
let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'demo-'))
})
afterAll(() => rm(folder, { recursive: true }))

it('classifies a photo dense and routed, and draws the routes', { timeout: 180_000 }, async () => {
  const [png, photo] = [join(folder, 'routes.png'), join(photos, 'flamingo.jpg')]
  const { exitCode, stdout } = await runCaptured([
    ...['demo', 'vision', photo, '--region', '0,4', '--region', '2,1', '--png', png, '--json'],
  ])
  expect(exitCode).toBe(0)
  const report = parseDocumented('demo-vision', stdout) as DemoVisionReport
  expect(report).toMatchObject({ model: 'kestrel-3m', photo: { file: photo, width: 300, height: 251 }, png })

  const logits = JSON.parse(await readFile(join(photos, 'logits.json'), 'utf8')) as Photo[]
  const judge = logits.find((each) => each.photo === 'flamingo.jpg')!
  const [dense, routed] = report.runs
  for (const [run, judged] of [
    [dense, judge.dense],
    [routed, judge.routed],
  ] as const) {
    // PyTorch's, of the photo as Pillow decodes it: see photos.ts.
    expect(run.classes[0]!.logit).toBeCloseTo(Math.max(...judged), 1)
    expect(run.classes.map(({ name }) => name)[0]).toBe('flamingo')
  }
  const difference = Math.max(...judge.dense.map((logit, i) => Math.abs(logit - judge.routed[i]!)))
  expect(report.logitDifference).toBeCloseTo(difference, 1)

  expect(dense.layers.every(({ method, density, recall }) => method === 'dense' && density * recall === 1)).toBe(true)
  const shares = [2, 2, 4, 4, 8, 8, 8, 8, 8, 8, 8, 8].map((topK) => topK / 25)
  expect(routed.layers.map(({ density }) => density)).toEqual(
    [...shares, 1, 1].map((share) => expect.closeTo(share, 6)),
  )
  expect(routed.layers[0]).toMatchObject({
    method: 'bilevel-routing',
    options: { regions: 5, topK: 2 },
    path: 'sparse',
  })
  expect(routed.layers[13]).toMatchObject({ method: 'dense', grid: [5, 5], path: 'dense' })

  // The last routed attention of each stage, two regions each; whole regions are attended to, as many as are routed.
  expect(report.routes.map(({ layer, query, attended }) => [layer, query, attended.length])).toEqual(
    [1, 3, 11].flatMap((layer, i) => [
      [layer, [0, 4], [2, 4, 8][i]],
      [layer, [2, 1], [2, 4, 8][i]],
    ]),
  )
  for (const { attended } of report.routes) for (const { share } of attended) expect(share).toBeCloseTo(1, 6)
  for (const { layer, routed: curve, best } of report.coverage) {
    expect([curve.length, curve.at(-1)]).toEqual([25, expect.closeTo(1, 6)])
    for (const [i, mass] of curve.entries()) expect(mass).toBeLessThanOrEqual(best[i]! + 1e-9)
    // What the kernel computed is what the curve says of its k: the routing is the same. The LSE is f32, of scores up to some 10.
    const { density, recall } = routed.layers[layer]!
    expect(recall).toBeCloseTo(curve[Math.round(density * 25) - 1]!, 3)
  }
  const { format, width, height } = await sharp(png).metadata()
  expect({ format, wide: width! > 900, tall: height! > 600 }).toEqual({ format: 'png', wide: true, tall: true })
})

it.each<[string, string[], RegExp]>([
  ['a photo that is not there', ['/no/photo.jpg'], /\/no\/photo\.jpg is no picture that can be read \(ENOENT\)/],
  ['a file that is no picture', ['text.jpg'], /text\.jpg is no picture that can be read/],
  ['a method for text', ['--method', 'xattention'], /Allowed choices are bilevel-routing, .*shifted-windows/],
  ['an option out of range', ['--option', 'topK=0'], /'topK' is 0/],
  [
    'a region beside the picture',
    ['--region', '2,5'],
    /The region is '2,5'\. Write row,column with numbers from 0 to 4/,
  ],
  ['too many regions', ['--region', ...new Array<string>(7).fill('1,1')], /More than 6 regions/],
  ['a picture in no folder', ['--png', '/no/such/folder/x.png'], /cannot be written \(ENOENT\)/],
])('refuses %s', async (_, argv, says) => {
  await writeFile(join(folder, 'text.jpg'), 'no picture')
  const given = argv.map((each) => (each === 'text.jpg' ? join(folder, each) : each))
  const { exitCode, stdout } = await runCaptured(['demo', 'vision', '--png', join(folder, 'x.png'), ...given, '--json'])
  expect(exitCode).toBe(2)
  const { error } = parseDocumented('error', stdout) as { error: { message: string } }
  expect(error.message).toMatch(says)
})

it('stops when cancelled in the middle, and leaves no picture', async () => {
  const own = await mkdtemp(join(folder, 'own-'))
  const controller = new AbortController()
  const argv = ['demo', 'vision', '--method', 'shifted-windows', '--png', join(own, 'x.png')]
  const running = runCaptured(argv, controller.signal)
  setTimeout(() => controller.abort(), 1500)
  const { exitCode, stdout, stderr } = await running
  expect({ exitCode, stdout }).toEqual({ exitCode: 130, stdout: '' })
  expect(stderr).toMatch(/sparse-attention: Cancelled\.\n$/)
  expect(await readdir(own)).toEqual([])
})
