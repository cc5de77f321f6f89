import type { Random } from '@sparse-attention/core'
import type { Pieces } from './task.js'

/*
 * The lines that bookworm-9m was trained on, as `recipes/bookworm-9m/tasks.py` writes them. A number is tokenized digit
 * by digit, apart from what stands around it.
 */

export const names: readonly string[] = (
  'Ada Bram Clara Dorian Edith Felix Greta Hugo Iris Jonas Klara Leo Mina Noel Olga Piet Quinn Rosa Simon Tilda ' +
  'Ursula Viktor Wanda Xaver Yara Zeno'
).split(' ')
export const things: readonly string[] =
  'garden harbour library tower cellar bridge orchard station mill chapel lantern carriage'.split(' ')
/** Letters but those that are words of a book, such as "a" and "I". */
export const variables: readonly string[] = [...'BCDEFGHJKLMNPQRSTUVWXYZbcdefghjklmnpqrstuvwxyz']

const number = (digits: string): Pieces => [' ', ...digits]

export const fact = (key: string, value: string): Pieces => [
  `\nThe secret number of ${key} is`,
  ...number(value),
  '.\n',
]
export const factQuestion = (key: string): Pieces => [`\nQuestion: what is the secret number of ${key}? Answer:`]
export const numberAnswer = (value: string): Pieces => [...number(value), '.']

export const assignValue = (name: string, value: string): Pieces => [`\nLet ${name} =`, ...number(value), '.\n']
export const assignName = (name: string, source: string): Pieces => [`\nLet ${name} = ${source}.\n`]
export const valueQuestion = (name: string): Pieces => [`\nQuestion: what is the value of ${name}? Answer:`]
export const traceQuestion = (name: string): Pieces => [`\nQuestion: trace the value of ${name}. Answer:`]
/** @param sources the names between the asked one and the value, nearest first */
export const traceAnswer = (sources: readonly string[], value: string): Pieces => [
  ...sources.map((name) => ` ${name},`),
  ...numberAnswer(value),
]

/** `count` different keys that share a name or a thing, up to as many as there are things. */
export function lookAlikes(random: Random, count: number): string[] {
  if (random.fraction() < 0.5) {
    const name = random.pick(names)
    return random.sample(things, count).map((thing) => `${name} of the ${thing}`)
  }
  const thing = random.pick(things)
  return random.sample(names, count).map((name) => `${name} of the ${thing}`)
}
