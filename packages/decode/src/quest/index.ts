export { type QuestOptions, quest } from './method.js'
