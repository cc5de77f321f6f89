import { registry } from '../registry.js'

const ids = (takes: 'one' | 'many', phase: 'decode' | 'prefill'): readonly string[] =>
  registry
    .filter(({ definition }) => definition.phase === 'any' || definition.phase === phase)
    .filter(
      ({ definition: { capabilities } }) => capabilities.queryLength === 'any' || capabilities.queryLength === takes,
    )
    .map(({ definition }) => definition.id)

/** Methods that read a prompt. */
export function prefillMethods(): readonly string[] {
  return ids('many', 'prefill')
}

/** Methods that write token by token. */
export function decodeMethods(): readonly string[] {
  return ids('one', 'decode')
}
