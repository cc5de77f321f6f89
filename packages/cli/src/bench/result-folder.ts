import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { checkWritable, writeAtomically } from '../files.js'
import { resultJson } from './result-json.js'

/** Where a run writes its figures, `<name>.json` and `<name>.md`, again and again as they come. */
export class ResultFolder {
  private constructor(
    private readonly folder: string | undefined,
    private readonly name: string,
  ) {}

  /**
   * Finds out before long work whether its results can be written.
   *
   * @param folder is made; undefined: nothing is written
   * @throws INVALID_FILE
   */
  static async open(folder: string | undefined, name: string): Promise<ResultFolder> {
    if (folder !== undefined) {
      await mkdir(folder, { recursive: true }).catch(() => {}) // whatever is wrong, the check below says it
      for (const extension of ['json', 'md']) await checkWritable(join(folder, `${name}.${extension}`))
    }
    return new ResultFolder(folder, name)
  }

  async write(report: object, markdown: string): Promise<void> {
    if (this.folder === undefined) return
    const text = new TextEncoder()
    await writeAtomically(join(this.folder, `${this.name}.json`), text.encode(resultJson(report)))
    await writeAtomically(join(this.folder, `${this.name}.md`), text.encode(markdown))
  }
}
