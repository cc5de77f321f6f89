import { encodeSafetensors, type HostTensor } from '@sparse-attention/compare'
import { writeAtomically } from '../files.js'

/**
 * Writes a safetensors file. It appears under its name when it is complete, so that a broken run leaves no broken file.
 *
 * @throws INVALID_ARGUMENT when a tensor's bytes do not fit its dtype and shape
 * @throws INVALID_FILE when the file cannot be written
 */
export async function writeSafetensors(
  path: string,
  tensors: Readonly<Record<string, HostTensor>>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  await writeAtomically(path, ...encodeSafetensors(tensors, metadata))
}
