export { type MinferenceVerticalSlashOptions, minferenceVerticalSlash } from './method.js'
