import { readFile, writeFile } from 'node:fs/promises'
import { expect } from 'vitest'

/**
 * What the packages alone computed for a request, in Node on the software adapter: kept in a file, since it takes as long as the
 * app's own run. `SPARSE_ATTENTION_RECORD=1` computes and writes it again.
 */
export async function recordedRun<Request, Run extends object>(
  file: URL,
  asked: Request,
  run: () => Promise<(asked: Request) => Promise<Run>>,
): Promise<Run> {
  if (process.env.SPARSE_ATTENTION_RECORD === '1') {
    const made = await (await run())(asked)
    await writeFile(file, `${JSON.stringify({ asked, ...made }, undefined, 2)}\n`)
  }
  const { asked: recorded, ...found } = JSON.parse(await readFile(file, 'utf8')) as Run & { readonly asked: Request }
  expect(recorded).toEqual(asked)
  return found as unknown as Run
}
