export { type SinkWindowOptions, sinkWindow } from './method.js'
