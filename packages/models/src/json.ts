import { SparseAttentionError } from '@sparse-attention/core'

export type JsonObject = Readonly<Record<string, unknown>>

export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** A value of a file as an error shows it: the beginning, however long it is. */
export function brief(value: unknown): string {
  const text = JSON.stringify(value) ?? 'missing'
  return text.length > 80 ? `${text.slice(0, 80)}…` : text
}

/** The object that `text` holds; a typed error that names `file` otherwise. */
export function parseJsonObject(text: string, file: string): JsonObject {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    // A development server answers an unknown path with its page and status 200, so say what was really received.
    const start = JSON.stringify(text.slice(0, 40))
    throw new SparseAttentionError('INVALID_FILE', {
      where: file,
      message: `${file} is not JSON: ${text.length} characters that start with ${start}.`,
      fix: 'Check its address and that it was downloaded whole.',
      cause,
    })
  }
  if (isJsonObject(value)) return value
  throw new SparseAttentionError('INVALID_FILE', {
    where: file,
    message: `${file} holds ${Array.isArray(value) ? 'an array' : String(value)}.`,
    fix: 'It must hold a JSON object.',
  })
}
