export type { AttentionInput } from '@sparse-attention/compare'
export {
  bitsPerElement,
  type HostTensor,
  type SafetensorsDType,
  type SafetensorsHeader,
  type TensorEntry,
} from '@sparse-attention/compare'
export {
  openSafetensors,
  readAttentionInput,
  readSafetensors,
  type SafetensorsReader,
} from './read.js'
export { writeSafetensors } from './write.js'
