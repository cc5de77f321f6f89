import { join } from 'node:path'
import type { Plugin } from 'vitest/config'
import type { Mutation } from './mutation.js'

const root = join(import.meta.dirname, '..', '..')

/** Puts a mutation into its module as the module is loaded: the working tree stays as it is. */
export function mutant({ file, find, replace }: Mutation): Plugin & { readonly applied: () => boolean } {
  let applied = false
  return {
    name: 'mutant',
    enforce: 'pre',
    transform(code, id) {
      if (id.split('?', 1)[0] !== join(root, file)) return
      const places = code.split(find).length - 1
      if (places !== 1) throw new Error(`${file} holds ${places} times, not once: ${find}`)
      applied = true
      return { code: code.replace(find, () => replace), map: null }
    },
    applied: () => applied,
  }
}
