import { expect, it } from 'vitest'
import { Turns } from './turns.js'

it('lets each run do a step after the other, and stops them all', async () => {
  const controller = new AbortController()
  const turns = new Turns(2, controller.signal)
  const seen: string[] = []
  const run = async (which: number, steps: number) => {
    for (let step = 0; step < steps; step++) {
      await turns.mine(which)
      seen.push(`${which}:${step}`)
      await Promise.resolve()
      turns.pass()
    }
  }
  await Promise.all([run(1, 3), run(0, 3)])
  expect(seen).toEqual(['0:0', '1:0', '0:1', '1:1', '0:2', '1:2'])

  const waits = turns.mine(1)
  controller.abort(new Error('enough'))
  await expect(waits).rejects.toThrow('enough')
  await expect(turns.mine(0)).rejects.toThrow('enough')
})
