import { defineConfig } from 'vitest/config'
import { inNode, tests } from '../test/projects.js'

/*
 * `pnpm test:fuzz`: cases, plans and sequences of calls at random, for as long as it is given, and every place of a fault. What fails is
 * made smaller, and printed with the seed and path that give it again.
 *
 *   SPARSE_ATTENTION_FUZZ_SECONDS  for each subject: a method's cases, its calls, a kind of plan; default 30
 *   SPARSE_ATTENTION_FUZZ_SEED     the seed of an earlier run; default: a new one, which is printed
 *
 * `pnpm test:fuzz xattention` picks a method by its file, `-t 'calls at random'` a subject.
 */

const { SPARSE_ATTENTION_FUZZ_SECONDS = '30', SPARSE_ATTENTION_FUZZ_SEED } = process.env
const seconds = Number(SPARSE_ATTENTION_FUZZ_SECONDS)
const seed = Number(SPARSE_ATTENTION_FUZZ_SEED ?? Math.floor(Math.random() * 2 ** 31))
if (!(seconds >= 10) || !Number.isSafeInteger(seed))
  throw new Error('Give at least 10 seconds, since kernels are compiled in them, and a seed that is an integer.')

const project = inNode('fuzz', [tests('.gpu.test.ts'), tests('.fuzz.test.ts')])

export default defineConfig(() => {
  console.log(`fuzz: ${seconds} s a subject, seed ${seed}`)
  return {
    ...project,
    test: { ...project.test, testNamePattern: /fuzz/, provide: { sparseAttentionFuzz: { seed, seconds } } },
  }
})
