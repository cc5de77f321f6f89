export {
  type StepCacheOptions,
  type StepCall,
  type StepPlugin,
  type StepResult,
  stepCache,
  timestepEmbedding,
} from './step-cache.js'
