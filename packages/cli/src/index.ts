export { type PlanPicture, type PlanPictureRow, planColors, planPicture } from './figures/plan-picture.js'
export { run } from './run.js'
export {
  type HostTensor,
  openSafetensors,
  readSafetensors,
  type SafetensorsDType,
  type SafetensorsHeader,
  type SafetensorsReader,
  type TensorEntry,
  writeSafetensors,
} from './safetensors/index.js'
export { exitCodes, type Terminal } from './terminal.js'
