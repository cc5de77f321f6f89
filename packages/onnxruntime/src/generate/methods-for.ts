import type { MethodFactory } from '@sparse-attention/core'

/** Of some methods, those that can read a prompt: `{ prefill }` of an `AttentionMethod`. */
export function promptMethods(methods: readonly MethodFactory[]): readonly MethodFactory[] {
  return methods.filter(runs('prefill', 'many'))
}

/** Of some methods, those that can write token by token: `{ decode }` of an `AttentionMethod`. */
export function tokenMethods(methods: readonly MethodFactory[]): readonly MethodFactory[] {
  return methods.filter(runs('decode', 'one'))
}

function runs(wanted: 'prefill' | 'decode', length: 'many' | 'one') {
  return ({ definition: { phase, capabilities } }: MethodFactory): boolean =>
    (phase === 'any' || phase === wanted) && (capabilities.queryLength === 'any' || capabilities.queryLength === length)
}
