import { AppError } from '../shell/protocol.js'

/** More than anyone reads here; the book has 0.7 MB. */
const mostBytes = 8e6

/**
 * The text of a file that was dropped or chosen.
 *
 * @throws AppError INVALID_FILE for one that is too large, empty, or not text in UTF-8
 */
export async function readTextFile(file: Pick<File, 'name' | 'size' | 'arrayBuffer'>): Promise<string> {
  const refuse = (message: string, fix: string) => new AppError('INVALID_FILE', `${file.name} ${message}. ${fix}`)
  if (file.size > mostBytes) throw refuse(`has ${(file.size / 1e6).toFixed(1)} MB`, 'Use a text of at most 8 MB.')
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(await file.arrayBuffer())
  } catch {
    throw refuse('is not text in UTF-8', 'Save it as a .txt file in UTF-8.')
  }
  if (text.includes('\0')) throw refuse('holds zero bytes', 'Use a plain text, not a document of a word processor.')
  if (text.trim() === '') throw refuse('is empty', 'Use a file with text in it.')
  return text
}
