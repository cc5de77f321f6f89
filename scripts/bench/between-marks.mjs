import { readFile, writeFile } from 'node:fs/promises'

/** Writes text between two marks of a page, in place of what is there, with an empty line around it. */
export async function writeBetween(page, begin, end, text) {
  const before = await readFile(page, 'utf8')
  const [from, to] = [before.indexOf(begin), before.indexOf(end)]
  if (from < 0 || to < from) throw new Error(`${page} lacks its marks: ${begin} … ${end}`)
  await writeFile(page, `${before.slice(0, from)}${begin}\n\n${text}\n\n${before.slice(to)}`)
  console.log(page)
}
