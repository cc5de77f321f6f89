export { type MassShortfall, massShortfall } from './mass-shortfall.js'
export { type TwilightOptions, twilight } from './method.js'
