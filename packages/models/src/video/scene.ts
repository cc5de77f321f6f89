import { Random, SparseAttentionError } from '@sparse-attention/core'

/** What videos of drifters-7m can show: a shape of a colour that drifts in a direction. */
export const sceneWords = {
  shapes: ['circle', 'square', 'triangle', 'cross'],
  colours: ['red', 'green', 'blue', 'yellow', 'magenta', 'cyan'],
  directions: ['right', 'down right', 'down', 'down left', 'left', 'up left', 'up', 'up right'],
} as const

/** Which shape, colour and direction: what the model's input `code` takes. */
export type SceneCode = readonly [shape: number, colour: number, direction: number]

/** Asks for nothing: the unconditional pass of guidance. */
export const nullScene: SceneCode = [sceneWords.shapes.length, sceneWords.colours.length, sceneWords.directions.length]

/** `red circle down left` */
export function describeScene([shape, colour, direction]: SceneCode): string {
  const { shapes, colours, directions } = sceneWords
  return `${colours[colour]} ${shapes[shape]} ${directions[direction]}`
}

/**
 * Reads a colour, a shape and a direction, the words of the latter last or apart from each other.
 *
 * @throws INVALID_ARGUMENT naming the words to choose from
 */
export function parseScene(text: string): SceneCode {
  const words = text
    .toLowerCase()
    .split(/[\s,-]+/)
    .filter(Boolean)
  const { shapes, colours, directions } = sceneWords
  const take = (list: readonly string[]) => {
    const at = words.findIndex((word) => list.includes(word))
    return at < 0 ? -1 : list.indexOf(words.splice(at, 1)[0]!)
  }
  const code = [take(shapes), take(colours), (directions as readonly string[]).indexOf(words.join(' '))] as const
  if (!code.includes(-1)) return code
  throw new SparseAttentionError('INVALID_ARGUMENT', {
    message: `'${text}' is no scene.`,
    fix: `Name a colour (${colours.join(', ')}), a shape (${shapes.join(', ')}) and a direction (${directions.join(', ')}), as in 'red circle down left'.`,
    where: 'scene',
  })
}

/** A scene by chance, the same for a seed. */
export function randomScene(seed: number): SceneCode {
  const random = new Random(seed)
  const { shapes, colours, directions } = sceneWords
  return [random.integer(shapes.length), random.integer(colours.length), random.integer(directions.length)]
}
