import { type AttentionFrame, defineMethod, type MethodFactory, StateEntries } from '@sparse-attention/core'
import { faultyMethod } from './faulty-method.js'

/*
 * For the tests of this package: a method that carries state, and the mistakes that the suite is there to find. With each
 * call of an entry its threshold rises.
 */

export type StateFault =
  | 'none'
  | 'one memory for all videos'
  | 'one memory for all branches'
  | 'one memory for all layers'
  | 'reset forgets nothing'
  | 'goes on after another shape'
  | 'allocates with each call'

interface Entry {
  calls: number
}

type Options = { readonly threshold: number }

/** The method, with one mistake or none. */
export function faultyState(fault: StateFault): MethodFactory<Options> {
  const { definition } = faultyMethod('none')
  return defineMethod<Options>({
    ...definition,
    id: 'rising-threshold',
    capabilities: { ...definition.capabilities, state: true, grid: 'optional', selfAttention: true },
    async create(runtime, config, { threshold }) {
      const programs = await Promise.all(
        [0, 0.5, 1].map((more) => definition.create(runtime, config, { threshold: threshold + more })),
      )
      const makeState = () => {
        const state = new StateEntries<Entry>(runtime)
        if (fault === 'reset forgets nothing') state.reset = () => {}
        return state
      }
      const shared = makeState()
      let calls = 0
      const seen = (frame: AttentionFrame): AttentionFrame => {
        const { layer = 0, branch, grid, ...others } = frame.context
        const context = {
          ...others,
          ...(grid && fault !== 'goes on after another shape' && { grid }),
          layer: fault === 'allocates with each call' ? calls++ : fault === 'one memory for all layers' ? 0 : layer,
          ...(branch && fault !== 'one memory for all branches' && { branch }),
        }
        const shape = fault === 'goes on after another shape' ? { batch: 1, queryLength: 1, keyLength: 1 } : {}
        return { ...frame, ...shape, context }
      }
      return {
        createState: makeState,
        plan(frame) {
          const state = fault === 'one memory for all videos' ? shared : (frame.state as StateEntries<Entry>)
          const { entry } = state.entry(seen(frame), (allocate) => {
            allocate(64)
            return { calls: 0 }
          })
          return programs[Math.min(entry.calls++, 2)]!.plan(frame)
        },
        attend: (frame, plan) => programs[0]!.attend(frame, plan),
        reset: () => shared.reset(),
        dispose() {
          shared.dispose()
          for (const program of programs) program.dispose()
        },
      }
    },
  })
}
