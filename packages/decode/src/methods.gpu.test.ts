import { defineMethod, type MethodFactory, type MethodOptions } from '@sparse-attention/core'
import { describeMethod } from '@sparse-attention/testing'
import { type QuestOptions, quest } from './quest/method.js'
import { questReference } from './quest/reference.js'
import { type SinkWindowOptions, sinkWindow } from './sink-window/method.js'
import { sinkWindowReference } from './sink-window/reference.js'
import { type TwilightOptions, twilight } from './twilight/method.js'
import { twilightReference } from './twilight/reference.js'

/*
 * The conformance suite of all methods in one file: they attend with the same kernels, which are compiled once for it. At the
 * suite's lengths the papers' budgets keep everything, so it runs with defaults that select.
 */

/** The method with other defaults. */
function selecting<Options extends MethodOptions>(
  { definition }: MethodFactory<Options>,
  defaults: Partial<Options>,
): MethodFactory<Options> {
  const options = Object.entries<object>(definition.options).map(([name, spec]) => [
    name,
    name in defaults ? { ...spec, default: defaults[name] } : spec,
  ])
  return defineMethod<Options>({ ...definition, options: Object.fromEntries(options) })
}

describeMethod<QuestOptions>(selecting(quest, { tokenBudget: 96 }), { reference: questReference })

// A p that no row comes close to: exponentials are rounded, also where the scores are exact.
describeMethod<TwilightOptions>(selecting(twilight, { topP: 0.79, tokenBudget: 128 }), { reference: twilightReference })

describeMethod<SinkWindowOptions>(selecting(sinkWindow, { localWindow: 60 }), { reference: sinkWindowReference })
