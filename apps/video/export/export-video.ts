import { SparseAttentionError } from '@sparse-attention/core'
import {
  BufferTarget,
  CanvasSource,
  getFirstEncodableVideoCodec,
  Mp4OutputFormat,
  Output,
  QUALITY_VERY_HIGH,
  type VideoCodec,
  WebMOutputFormat,
} from 'mediabunny'
import { drawFrame, layoutOf, type Panel } from './layout.js'

export const exportFormats = ['mp4', 'webm', 'png'] as const
/** `png`: all frames in one picture, which needs no video encoder. */
export type ExportFormat = (typeof exportFormats)[number]

export interface ExportRequest {
  readonly panels: readonly Panel[]
  readonly format: ExportFormat
  readonly framesPerSecond: number
  /** How often the frames are shown one after another. Not for `png`. */
  readonly repeats: number
}

/** A file as it is saved. */
export interface ExportedFile {
  readonly bytes: Uint8Array<ArrayBuffer>
  readonly mimeType: string
  /** Of WebCodecs; none for a picture. */
  readonly codec?: string
  readonly width: number
  readonly height: number
  readonly frames: number
}

export interface ExportContext {
  readonly signal: AbortSignal
  /** After each frame. */
  readonly onFrame: (done: number, total: number) => void
}

/** The most widely played first; what a browser can encode decides. */
const preference: readonly VideoCodec[] = ['avc', 'vp9', 'av1', 'vp8', 'hevc']

/**
 * Makes a file of the frames of videos, side by side.
 *
 * @throws UNSUPPORTED where the browser encodes no codec that the format can hold; the signal's reason
 */
export async function exportVideo(request: ExportRequest, context: ExportContext): Promise<ExportedFile> {
  return request.format === 'png' ? pictureOfFrames(request, context) : encode(request, request.format, context)
}

async function encode(
  { panels, framesPerSecond, repeats }: ExportRequest,
  container: 'mp4' | 'webm',
  { signal, onFrame }: ExportContext,
): Promise<ExportedFile> {
  const layout = layoutOf(panels)
  const { width, height } = layout
  const format = container === 'mp4' ? new Mp4OutputFormat({ fastStart: 'in-memory' }) : new WebMOutputFormat()
  const holds = format.getSupportedVideoCodecs()
  const candidates = preference.filter((codec) => holds.includes(codec))
  const quality = QUALITY_VERY_HIGH
  const codec = await getFirstEncodableVideoCodec(candidates, { width, height, quality })
  if (codec === null) {
    throw new SparseAttentionError('UNSUPPORTED', {
      message: `This browser encodes no video that ${container === 'mp4' ? 'an MP4' : 'a WebM'} file can hold (asked for ${candidates.join(', ')}).`,
      fix: 'Choose the frames as a PNG, or open the page in a browser with WebCodecs, such as a current Chrome, Edge, Safari or Firefox.',
      where: 'format',
    })
  }
  const canvas = new OffscreenCanvas(width, height)
  const drawing = canvas.getContext('2d')!
  const target = new BufferTarget()
  const output = new Output({ format, target })
  const source = new CanvasSource(canvas, { codec, quality })
  output.addVideoTrack(source, { frameRate: framesPerSecond })
  try {
    await output.start()
    const { count } = panels[0]!.frames
    const frames = count * repeats
    for (let i = 0; i < frames; i++) {
      signal.throwIfAborted()
      drawFrame(drawing, panels, layout, i % count)
      await source.add(i / framesPerSecond, 1 / framesPerSecond)
      onFrame(i + 1, frames)
    }
    await output.finalize()
    const bytes = new Uint8Array(target.buffer as ArrayBuffer)
    return { bytes, mimeType: `video/${container}`, codec, width, height, frames }
  } catch (error) {
    if (output.state !== 'finalized') await output.cancel()
    throw error
  }
}

/** Frames from top to bottom. */
async function pictureOfFrames({ panels }: ExportRequest, { signal, onFrame }: ExportContext): Promise<ExportedFile> {
  const layout = layoutOf(panels)
  const { count } = panels[0]!.frames
  const canvas = new OffscreenCanvas(layout.width, layout.height * count)
  const drawing = canvas.getContext('2d')!
  for (let i = 0; i < count; i++) {
    signal.throwIfAborted()
    drawFrame(drawing, panels, layout, i, i * layout.height)
    onFrame(i + 1, count)
  }
  const blob = await canvas.convertToBlob({ type: 'image/png' })
  const bytes = new Uint8Array(await blob.arrayBuffer())
  return { bytes, mimeType: 'image/png', width: layout.width, height: canvas.height, frames: count }
}
