export { type ShiftedWindowsOptions, shiftedWindows } from './method.js'
