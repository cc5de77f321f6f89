import { SparseAttentionError } from '@sparse-attention/core'
import { brief, parseJsonObject } from '../json.js'
import type { ClassifierStage, ImageClassifierConfig } from './image-classifier.js'

const file = 'config.json'

/**
 * Reads the text of the `config.json` of an image classifier.
 *
 * @throws SparseAttentionError `INVALID_FILE` where it is no JSON object, or something is missing or absurd.
 */
export function parseImageClassifierConfig(text: string): ImageClassifierConfig {
  const json = parseJsonObject(text, file)
  const imageSize = size(json, 'image_size')
  return {
    imageSize,
    resizeShorter: checked(
      json,
      'resize_shorter',
      (n): n is number => isSize(n) && n >= imageSize,
      `an integer from ${imageSize}`,
    ),
    mean: checked(json, 'image_mean', isColor, 'three numbers'),
    std: checked(json, 'image_std', (v): v is Color => isColor(v) && v.every((n) => n > 0), 'three positive numbers'),
    stages: checked(json, 'stages', isList, 'a list of stages').map(parseStage),
    classes: checked(json, 'classes', isNames, 'a list of names'),
  }
}

type Json = Readonly<Record<string, unknown>>
type Color = readonly [number, number, number]

function parseStage(stage: unknown): ClassifierStage {
  const json = (typeof stage === 'object' && stage !== null ? stage : {}) as Json
  const grid = checked(json, 'grid', isGrid, '[height, width]')
  const regions = json.regions ?? null
  const routing =
    regions === null
      ? undefined
      : {
          regions: checked(
            json,
            'regions',
            (n): n is number => isSize(n) && n <= Math.min(...grid),
            'no more than the grid has',
          ),
          topK: size(json, 'top_k'),
        }
  return { blocks: size(json, 'blocks'), channels: size(json, 'channels'), heads: size(json, 'heads'), grid, routing }
}

function size(json: Json, key: string): number {
  return checked(json, key, isSize, 'an integer from 1 to 65536')
}

function checked<T>(json: Json, key: string, accepts: (value: unknown) => value is T, allowed: string): T {
  const value = json[key]
  if (accepts(value)) return value
  throw new SparseAttentionError('INVALID_FILE', {
    where: file,
    message: `${file}: ${key} is ${brief(value)}.`,
    fix: `It must be ${allowed}; load the file that belongs to the checkpoint.`,
  })
}

function isSize(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= 65_536
}

function isList(value: unknown): value is readonly unknown[] {
  return Array.isArray(value) && value.length > 0
}

function isNames(value: unknown): value is readonly string[] {
  return isList(value) && value.every((name) => typeof name === 'string' && name !== '')
}

function isColor(value: unknown): value is Color {
  return isList(value) && value.length === 3 && value.every((n) => typeof n === 'number' && Number.isFinite(n))
}

function isGrid(value: unknown): value is readonly [number, number] {
  return isList(value) && value.length === 2 && value.every(isSize)
}
