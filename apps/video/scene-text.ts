import { SparseAttentionError } from '@sparse-attention/core'
import { parseScene, type SceneCode, sceneWords } from '@sparse-attention/models'

const counts = [sceneWords.shapes.length, sceneWords.colours.length, sceneWords.directions.length] as const

/**
 * Reads a scene: words as in `red circle down left`, or the numbers of shape, colour and direction as the model takes them, as in
 * `0 0 3`.
 *
 * @throws INVALID_ARGUMENT naming what there is to choose from
 */
export function readScene(text: string): SceneCode {
  const numbers = /^\s*(\d{1,3})[\s,]+(\d{1,3})[\s,]+(\d{1,3})\s*$/.exec(text)?.slice(1).map(Number)
  if (!numbers) return parseScene(text)
  const code = numbers as unknown as SceneCode
  if (code.every((number, i) => number < counts[i]!)) return code
  throw new SparseAttentionError('INVALID_ARGUMENT', {
    message: `'${text.trim()}' is no scene.`,
    fix: `Use numbers below ${counts.join(', ')} for shape, colour and direction, or words.`,
    where: 'scene',
  })
}
