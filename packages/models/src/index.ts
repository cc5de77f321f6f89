export { parseLanguageModelConfig } from './config.js'
export type { LanguageModel, LanguageModelConfig } from './language-model.js'
export {
  assembleLanguageModel,
  assembleVideoModel,
  type CheckpointFile,
  checkpointFiles,
  type VideoCheckpointFile,
  videoCheckpointFiles,
} from './loading/assemble.js'
export { type DownloadOptions, download, type LoadProgress } from './loading/download.js'
export { heldOutBook, type LoadOptions, loadHeldOutBook, loadLanguageModel, loadVideoModel } from './loading/load.js'
export { heldOutPassage } from './tasks/held-out-passage.js'
export { type MultiKeyOptions, multiKey } from './tasks/multi-key.js'
export { type NeedleOptions, needle } from './tasks/needle.js'
export { type HiddenLine, isCorrect, type TaskOptions, type TaskSample } from './tasks/task.js'
export { type VariableTrackingOptions, variableTracking } from './tasks/variable-tracking.js'
export { TokenTextDecoder } from './token-text-decoder.js'
export { createTokenizer, type LanguageTokenizer } from './tokenizer.js'
export { parseVideoModelConfig, type VideoModelConfig } from './video/config.js'
export { psnr, ssim } from './video/quality.js'
export { type MakeFeed, type VideoRequest, type VideoSampling, videoSampling } from './video/sampling.js'
export { describeScene, nullScene, parseScene, randomScene, type SceneCode, sceneWords } from './video/scene.js'
export { type VideoSize, videoGrid, videoSizes } from './video/sizes.js'
export { patchSize, type Video, type VideoGrid, videoOf, videoTokens } from './video/video.js'
export { type RotaryTables, rotaryTables, samplingShift, type VideoModel } from './video/video-model.js'
export { parseImageClassifierConfig } from './vision/config.js'
export { decodeBitmap, decodePicture, pictureOf } from './vision/decode-picture.js'
export {
  type ClassifierStage,
  type ImageClassifier,
  type ImageClassifierConfig,
  type LikelyClass,
  likeliestClasses,
  stageOfLayer,
} from './vision/image-classifier.js'
export { loadImageClassifier } from './vision/load.js'
export { type Picture, preprocess, type Rectangle, seenPart } from './vision/preprocess.js'
