import { isJsonObject } from './json.js'

/** The longest pattern of a known tokenizer has some 400 characters. */
const longestPattern = 1000
/** Sequences within sequences: real files have two. */
const deepest = 32
/** Of one alternative. Each may multiply the time by the length of the text. */
const mostRepetitions = 3

/**
 * Says what is wrong with a part of a tokenizer.json, `pre_tokenizer` for instance: a regular expression that may take time
 * exponential in a text, or a high power of its length, since the library runs it as it stands. Patterns that tokenizers have pass: no group is
 * repeated without end in them, and few things are in one alternative.
 */
export function findDangerousPattern(part: unknown, depth = 0): string | undefined {
  if (depth > deepest) return 'it is nested too deep'
  const values = Array.isArray(part) ? part : isJsonObject(part) ? Object.values(part) : []
  const own = isJsonObject(part) && part.Regex !== undefined ? checkPattern(part.Regex) : undefined
  return own ?? values.map((value) => findDangerousPattern(value, depth + 1)).find((problem) => problem !== undefined)
}

function checkPattern(pattern: unknown): string | undefined {
  if (typeof pattern !== 'string') return 'a pattern is not a text'
  const named = `the pattern ${JSON.stringify(pattern.slice(0, 60))}`
  if (pattern.length > longestPattern) return `${named}… has ${pattern.length} characters`
  // What an escape or a class stands for is one character; what is left are groups, bars and repetitions.
  const bare = pattern
    .replace(/\\[pPu]\{[^}]*\}|\\k<[^>]*>|\\./gs, (escaped) => (/^\\(k<|[1-9])/.test(escaped) ? '#' : 'x'))
    .replace(/\[[^\]]*\]/g, 'x')
  if (bare.includes('#')) return `${named} refers back to a group`
  if (/\)(?:[*+]|\{\d*,\})/.test(bare)) return `${named} repeats a group without end`
  const most = Math.max(...bare.split('|').map((one) => one.match(/[*+]|\{\d*,\}/g)?.length ?? 0))
  return most > mostRepetitions ? `${named} repeats ${most} things without end, one behind another` : undefined
}
