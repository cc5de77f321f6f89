export { type CalibratedThreshold, type CalibrateOptions, calibrateThreshold } from './calibrate.js'
export { type LiteAttentionOptions, liteAttention } from './method.js'
export type { StepThresholds } from './threshold.js'
