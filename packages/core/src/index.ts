export {
  allocateBuffer,
  allocateBuffers,
  type HoldsBuffers,
  isMissing,
  noMemory,
  whenAllocated,
} from './allocate.js'
export type { RunOptions, RunResult, SparseAttention } from './attention.js'
export { defineMethod } from './define-method.js'
export {
  type BindingKind,
  type Cost,
  type Dispatch,
  type Kernel,
  type KernelSource,
  recordDispatches,
} from './dispatch.js'
export { type ErrorCode, type ErrorDetails, SparseAttentionError } from './errors.js'
export { guarded } from './gpu-errors.js'
export { floatsToHalves, floatToHalf, halfToFloat, halvesToFloats } from './half.js'
export {
  countPairs,
  denseMask,
  forEachPlanRows,
  type HostBlockPlan,
  type HostPermutation,
  type HostPermutedPlan,
  type HostPlan,
  type HostStripePlan,
  type HostVariableBlockPlan,
  hasBlock,
  headPairs,
  keptShares,
  type PlanRows,
  visiblePairs,
} from './host-plan.js'
export type {
  AppendOptions,
  ContiguousKVCache,
  KeyPages,
  KVCache,
  KVCacheConfig,
  PagedKVCache,
  PagedView,
} from './kv-cache.js'
export type * from './method.js'
export { recall, relativeError } from './metrics.js'
export {
  type BlockGeometry,
  type BlockPlanData,
  blockGrid,
  type DensePlanData,
  lastVisibleKey,
  type PermutationGeometry,
  type PermutedPlanData,
  type PlanData,
  type PlanForm,
  type PlanGeometry,
  type PlanKind,
  type PlanPermutation,
  permutationOf,
  planElements,
  type StripeGeometry,
  type StripeList,
  type StripePlanData,
  type VariableBlockGeometry,
  type VariableBlockPlanData,
} from './plan.js'
export { type Plan, type PlanStats, uploadPlan } from './plan-view.js'
export { Random } from './random.js'
export { createRuntime, Runtime, type RuntimeOptions } from './runtime.js'
export { type AllocateState, type AttentionState, type FoundEntry, type MethodState, StateEntries } from './state.js'
export {
  type BufferSlice,
  bytesPerElement,
  contiguousStrides,
  type DType,
  elementCount,
  type OwnedTensor,
  permute,
  type Tensor,
  type TensorViewOptions,
  tensorView,
} from './tensor.js'
export {
  implementedTiers,
  type SubgroupMatrix,
  type SubgroupMatrixSyntax,
  type Tier,
  type TierReport,
  tiers,
} from './tiers.js'
export {
  type AdapterIdentity,
  findTuning,
  mergeTuning,
  parseTuningTable,
  type TuningEntry,
  type TuningQuery,
  type TuningTable,
} from './tuning.js'
export { loadTuning, saveTuning } from './tuning-cache.js'
export { validateNewTokens } from './validate-new-tokens.js'
export type { WorkBudget } from './work-budget.js'
