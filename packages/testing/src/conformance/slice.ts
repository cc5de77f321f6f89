import type { Case } from './cases.js'

/** What a case's kernels are compiled for: cases that agree in it share them. */
function kernelsOf({ headDim, dtype, causal, choices }: Case): string {
  return JSON.stringify([headDim, dtype, causal, choices])
}

/**
 * Every fourth group of the cases that share their kernels, and the group of the longest cases whose kernels the properties
 * use too. By group, since on a software adapter nearly all time goes into compiling.
 */
export function sliceOf(cases: readonly Case[]): Case[] {
  const groups = [...new Set(cases.map(kernelsOf))]
  const length = Math.max(...cases.map(({ keyLength }) => keyLength))
  const longest = cases.filter(({ keyLength }) => keyLength === length)
  const kept = new Set(groups.filter((_, n) => n % 4 === 0))
  kept.add(kernelsOf(longest.find(({ causal }) => causal) ?? longest[0]!))
  return cases.filter((c) => kept.has(kernelsOf(c)))
}
