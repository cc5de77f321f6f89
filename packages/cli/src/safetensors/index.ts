export { bitsPerElement, type HostTensor, type SafetensorsDType } from './dtypes.js'
export type { SafetensorsHeader, TensorEntry } from './header.js'
export { openSafetensors, readSafetensors, type SafetensorsReader } from './read.js'
export { writeSafetensors } from './write.js'
