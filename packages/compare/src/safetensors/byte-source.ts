/** Something that bytes can be read from: a file on a disk, one that was dropped on a page, a buffer. */
export interface ByteSource {
  /** What errors call it: a path, a file's name. */
  readonly name: string
  readonly sizeBytes: number
  /**
   * Bytes in memory of their own, whose offset is aligned for every dtype.
   *
   * @throws INVALID_FILE where there are fewer by now
   */
  read(position: number, length: number): Promise<Uint8Array<ArrayBuffer>>
}

/** A file of a web page, or anything that is in memory. */
export function blobSource(blob: Blob, name: string): ByteSource {
  return {
    name,
    sizeBytes: blob.size,
    read: async (position, length) => new Uint8Array(await blob.slice(position, position + length).arrayBuffer()),
  }
}
