export { type AdapterReport, describeAdapter, nameAdapter } from './adapter.js'
export { type AttentionInput, type HostArray, readAttentionInput } from './attention-input.js'
export { attentionInputOf } from './attention-input-of.js'
export { type Ceilings, matrixProductSource, measureCeilings } from './bench/ceilings.js'
export { allowedError, attendRow, type CheckedAnswer, errorOfRows, type HeadMemory, worst } from './bench/check-rows.js'
export type { CheckedResult } from './bench/checked-result.js'
export { GpuTimer } from './bench/gpu-timer.js'
export { type BenchInput, type InputKind, inputKinds, makeInput, tokensOf } from './bench/input.js'
export {
  type BenchMemory,
  type BenchResult,
  type DenseAnswer,
  type MeasureOptions,
  measureMethod,
  measurePeer,
  type Peer,
  peerName,
  samplesOf,
} from './bench/measure.js'
export type { BenchReport } from './bench/report.js'
export { callsPerSample, type SampleOptions, summary, type Timing, timeWall, warmUps } from './bench/samples.js'
export { type BenchTensors, uploadInput } from './bench/tensors.js'
export { type AttentionTimes, type Times, timeAttention } from './bench/time-attention.js'
export { type CapturedAttention, captureAttention, type ObservedAttention } from './capture-attention.js'
export { type MeasureMethodsOptions, type MethodMeasurement, measureMethods } from './measure-methods.js'
export { findMethod, registry } from './registry.js'
export { type ByteSource, blobSource } from './safetensors/byte-source.js'
export { bitsPerElement, type HostTensor, type SafetensorsDType } from './safetensors/dtypes.js'
export { invalidFile, parseHeader, type SafetensorsHeader, type TensorEntry } from './safetensors/header.js'
export { openSafetensors, type SafetensorsReader } from './safetensors/read.js'
export { encodeSafetensors } from './safetensors/write.js'
export { mean, median, percentile } from './statistics.js'
export { describeShape, formatShape, type ShapeReport, type TimeRunsOptions, timeRuns, upload } from './time-runs.js'
