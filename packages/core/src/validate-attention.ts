import { SparseAttentionError } from './errors.js'
import type { ContiguousKVCache, KVCache, PagedKVCache } from './kv-cache.js'
import type {
  AttentionContext,
  AttentionShape,
  AttentionTensors,
  CachedAttentionTensors,
  Capabilities,
  CompiledConfig,
  UseConfig,
} from './method.js'
import type { Runtime } from './runtime.js'
import { bytesPerElement, contiguousStrides, type Tensor, validateTensor } from './tensor.js'

const STORAGE = 0x80

/** Checks a configuration against a method's capabilities and fills in defaults. */
export function resolveConfig(id: string, capabilities: Capabilities, config: UseConfig): CompiledConfig {
  const kvHeads = config.kvHeads ?? config.queryHeads
  for (const [name, heads] of [
    ['queryHeads', config.queryHeads],
    ['kvHeads', kvHeads],
  ] as const) {
    if (!Number.isSafeInteger(heads) || heads < 1 || heads > 65535) {
      refuse('INVALID_ARGUMENT', name, `${name} is ${heads}.`, 'Use an integer from 1 to 65535.')
    }
  }
  if (config.queryHeads % kvHeads !== 0) {
    refuse(
      'INVALID_ARGUMENT',
      'kvHeads',
      `${config.queryHeads} query heads cannot share ${kvHeads} KV heads.`,
      'kvHeads must divide queryHeads.',
    )
  }
  const { multipleOf, max } = capabilities.headDim
  if (
    !Number.isSafeInteger(config.headDim) ||
    config.headDim < 1 ||
    config.headDim % multipleOf !== 0 ||
    config.headDim > max
  ) {
    refuse(
      'UNSUPPORTED',
      'headDim',
      `${id} got headDim ${config.headDim}.`,
      `Use a multiple of ${multipleOf} up to ${max}.`,
    )
  }
  if (!capabilities.dtypes.includes(config.dtype)) {
    refuse(
      'INVALID_DTYPE',
      'dtype',
      `${id} got dtype '${config.dtype}'.`,
      `Use one of ${capabilities.dtypes.join(', ')}.`,
    )
  }
  if (!capabilities.causal.includes(config.causal)) {
    refuse(
      'UNSUPPORTED',
      'causal',
      `${id} does not take causal: ${config.causal}.`,
      `It takes causal: ${capabilities.causal.join(' or ')}.`,
    )
  }
  const { pageSize } = config
  if (pageSize !== undefined) {
    if (!capabilities.pages) {
      refuse(
        'UNSUPPORTED',
        'pageSize',
        `${id} cannot read keys in pages.`,
        'Use a contiguous cache, or a method whose capabilities have pages.',
      )
    }
    if (![16, 32, 64].includes(pageSize)) {
      refuse('INVALID_ARGUMENT', 'pageSize', `pageSize is ${pageSize}.`, 'Use 16, 32 or 64.')
    }
  }
  const scale = config.scale ?? 1 / Math.sqrt(config.headDim)
  if (!Number.isFinite(scale)) {
    refuse('INVALID_ARGUMENT', 'scale', `scale is ${scale}.`, 'Use a finite number, or leave it out for 1/√headDim.')
  }
  return {
    queryHeads: config.queryHeads,
    kvHeads,
    headDim: config.headDim,
    dtype: config.dtype,
    causal: config.causal,
    scale,
    ...(pageSize !== undefined && { pageSize }),
  }
}

/**
 * Checks the tensors of one call against the configuration and each other, before anything touches the GPU.
 *
 * @throws INVALID_SHAPE, INVALID_DTYPE, INVALID_VIEW, BUFFER_TOO_SMALL, UNSUPPORTED, LIMIT_EXCEEDED
 */
export function validateTensors(
  id: string,
  capabilities: Capabilities,
  config: CompiledConfig,
  tensors: AttentionTensors,
  limits: GPUSupportedLimits,
): AttentionShape {
  const { q, k, v, out, lse } = tensors
  if (config.pageSize !== undefined) {
    refuse(
      'INVALID_ARGUMENT',
      'cache',
      `${id} was made for keys in pages of ${config.pageSize} tokens.`,
      'Pass { q, cache }, or call runtime.use without pageSize.',
    )
  }
  for (const [name, tensor] of [
    ['q', q],
    ['k', k],
    ['v', v],
    ['out', out],
  ] as const) {
    if (name === 'out' && !tensor) continue
    checkTensor(name, tensor, config.dtype, limits)
  }
  const [batch, queryHeads, queryLength, headDim] = q.shape as [number, number, number, number]
  const [, kvHeads, keyLength] = k.shape as [number, number, number, number]
  expectShape('q', q, [batch, config.queryHeads, queryLength, config.headDim])
  expectShape('k', k, [batch, config.kvHeads, keyLength, config.headDim])
  expectShape('v', v, [batch, config.kvHeads, keyLength, config.headDim])
  if (out) {
    expectShape('out', out, [batch, queryHeads, queryLength, headDim])
    checkDistinct(out)
  }
  if (lse) checkLse(lse, [batch, queryHeads, queryLength])
  if (batch > 65535) {
    refuse('LIMIT_EXCEEDED', 'q', `q has batch ${batch}.`, 'Split the batch into calls of at most 65535.')
  }
  checkQueryLength(id, capabilities, queryLength)
  checkTokens(id, capabilities, tensors.context, queryLength, keyLength)
  checkOverlap([q, k, v], tensors)
  return { batch, queryHeads, kvHeads, queryLength, keyLength, headDim }
}

/**
 * Checks the cache of one call against the configuration, and what else the call has against both.
 *
 * @throws as `validateTensors`, and WRONG_RUNTIME, DISPOSED
 */
export function validateCache(
  runtime: Runtime,
  id: string,
  capabilities: Capabilities,
  config: CompiledConfig,
  tensors: CachedAttentionTensors,
): AttentionShape {
  const { cache, ...others } = tensors
  const { limits } = runtime.device
  if (!cache) refuse('INVALID_ARGUMENT', 'cache', 'cache is missing.', 'Pass a KV cache, or k and v.')
  if ('k' in tensors || 'v' in tensors)
    refuse('INVALID_ARGUMENT', 'cache', 'There are a cache and keys or values.', 'Append them to the cache first.')
  if (!isPaged(cache)) {
    return validateTensors(id, capabilities, config, { ...others, ...contiguousKeys(cache) }, limits)
  }
  if (cache.runtime !== runtime)
    refuse(
      'WRONG_RUNTIME',
      'cache',
      'The cache belongs to another runtime.',
      'Make it with the runtime of the attention.',
    )
  const { pageSize } = config
  if (pageSize === undefined) {
    refuse(
      'UNSUPPORTED',
      'cache',
      `${id} was made for keys in tensors, the cache has them in pages of ${cache.pageSize} tokens.`,
      `Call runtime.use with pageSize: ${cache.pageSize}.`,
    )
  }
  if (cache.pageSize !== pageSize)
    refuse(
      'INVALID_ARGUMENT',
      'cache',
      `The cache has pages of ${cache.pageSize} tokens, ${id} was made for ${pageSize}.`,
      'Use one size for both.',
    )
  const held = cache.config
  if (held.kvHeads !== config.kvHeads || held.headDim !== config.headDim) {
    refuse(
      'INVALID_SHAPE',
      'cache',
      `The cache has ${held.kvHeads} KV heads of head_dim ${held.headDim}, expected ${config.kvHeads} of ${config.headDim}.`,
      'Make both for the same model.',
    )
  }
  if (held.dtype !== config.dtype)
    refuse(
      'INVALID_DTYPE',
      'cache',
      `The cache is ${held.dtype}, the attention was made for ${config.dtype}.`,
      'Use one dtype for both.',
    )
  const { k, v } = cache.view() // throws when it is disposed
  if (cache.length === 0)
    refuse('INVALID_SHAPE', 'cache', 'The cache holds no token.', 'Append the keys and values of the query first.')

  const { q, out, lse } = others
  checkTensor('q', q, config.dtype, limits)
  if (out) checkTensor('out', out, config.dtype, limits)
  const [, , queryLength] = q.shape as [number, number, number, number]
  const { queryHeads, headDim } = config
  const { batch } = held
  expectShape('q', q, [batch, queryHeads, queryLength, headDim])
  if (out) {
    expectShape('out', out, [batch, queryHeads, queryLength, headDim])
    checkDistinct(out)
  }
  if (lse) checkLse(lse, [batch, queryHeads, queryLength])
  checkQueryLength(id, capabilities, queryLength)
  checkTokens(id, capabilities, others.context, queryLength, cache.length)
  checkOverlap([q, k, v], others)
  return { batch, queryHeads, kvHeads: config.kvHeads, queryLength, keyLength: cache.length, headDim }
}

export function isPaged(cache: KVCache): cache is PagedKVCache {
  return cache.layout === 'paged'
}

/** Keys and values of a cache that any attention reads as tensors. */
export function contiguousKeys(cache: KVCache): { k: Tensor; v: Tensor } {
  if (cache.layout !== 'contiguous') {
    refuse(
      'UNSUPPORTED',
      'cache',
      `The cache has the layout '${cache.layout}'.`,
      "Use one that is 'contiguous' or 'paged'.",
    )
  }
  const contiguous = cache as ContiguousKVCache
  return { k: contiguous.keys(), v: contiguous.values() }
}

function checkQueryLength(id: string, { queryLength: taken }: Capabilities, queryLength: number): void {
  if (taken === 'any' || (taken === 'one') === (queryLength === 1)) return
  refuse(
    'UNSUPPORTED',
    'q',
    `${id} got query_length ${queryLength}.`,
    taken === 'one' ? 'It takes one query at a time.' : 'It takes more than one query.',
  )
}

/** What a method says of the tokens: that queries and keys are of the same ones, and that they lie on a grid. */
function checkTokens(
  id: string,
  { selfAttention = false, grid: needs = 'none', gridAxes = [2, 3] }: Capabilities,
  { grid }: AttentionContext = {},
  queryLength: number,
  keyLength: number,
): void {
  if (selfAttention && queryLength !== keyLength) {
    refuse(
      'UNSUPPORTED',
      'k',
      `${id} got query_length ${queryLength} and key_length ${keyLength}.`,
      'It takes self-attention only: give queries and keys of the same tokens.',
    )
  }
  if (needs === 'none' || (grid === undefined && needs === 'optional')) return
  const forms = gridAxes.map((axes) => (axes === 3 ? '[frames, height, width]' : '[height, width]')).join(' or ')
  if (grid === undefined)
    refuse(
      'INVALID_ARGUMENT',
      'context.grid',
      `${id} needs the grid of the tokens.`,
      `Pass context: { grid: ${forms} }.`,
    )
  if (!gridAxes.includes(grid.length) || !grid.every((size) => Number.isSafeInteger(size) && size > 0)) {
    refuse('INVALID_ARGUMENT', 'context.grid', `The grid is [${grid}].`, `Use ${forms}, integers from 1.`)
  }
  const tokens = grid.reduce((product, size) => product * size, 1)
  if (tokens > keyLength) {
    refuse(
      'INVALID_SHAPE',
      'context.grid',
      `The grid [${grid}] has ${tokens} tokens, key_length is ${keyLength}.`,
      'Use the grid of these tokens: its product is at most key_length.',
    )
  }
}

function checkTensor(name: string, tensor: Tensor | undefined, dtype: string, limits: GPUSupportedLimits): void {
  if (!tensor) refuse('INVALID_ARGUMENT', name, `${name} is missing.`, 'Pass a tensor.')
  validateTensor(tensor, name)
  if (tensor.shape.length !== 4) {
    refuse(
      'INVALID_SHAPE',
      name,
      `${name} has shape [${tensor.shape}].`,
      'Pass [batch, heads, length, head_dim]; use permute() for other layouts.',
    )
  }
  if (tensor.dtype !== dtype) {
    refuse(
      'INVALID_DTYPE',
      name,
      `${name} is ${tensor.dtype}, the attention was made for ${dtype}.`,
      `Convert it, or call runtime.use with dtype '${tensor.dtype}'.`,
    )
  }
  checkUsage(name, tensor)
  // Kernels read 16 bytes at a time.
  const elements = 16 / bytesPerElement[tensor.dtype]
  const [sb, sh, sl, sd] = tensor.strides as [number, number, number, number]
  const steps = tensor.shape.map((size, axis) => (size > 1 ? ([sb, sh, sl][axis] ?? 0) : 0))
  if (sd !== 1 || tensor.offset % elements !== 0 || steps.some((step) => step % elements !== 0)) {
    refuse(
      'INVALID_VIEW',
      name,
      `${name} has strides [${tensor.strides}] and offset ${tensor.offset}.`,
      `The last axis must be contiguous, other strides and the offset multiples of ${elements} elements (16 bytes).`,
    )
  }
  const last = tensor.shape.reduce((sum, size, axis) => sum + (size - 1) * tensor.strides[axis]!, 0)
  const span = (last + 1) * bytesPerElement[tensor.dtype] + 256
  if (span > limits.maxStorageBufferBindingSize) {
    refuse(
      'LIMIT_EXCEEDED',
      name,
      `${name} spans ${span} bytes, one binding may have ${limits.maxStorageBufferBindingSize}.`,
      'Split the call by batch or heads, or request a device with a larger maxStorageBufferBindingSize.',
    )
  }
}

/** Every element of an output has a place of its own: each axis steps over all that the finer ones span. */
function checkDistinct(out: Tensor): void {
  const axes = out.shape.map((size, axis) => ({ size, stride: out.strides[axis]! })).filter(({ size }) => size > 1)
  let spanned = 0
  for (const { size, stride } of axes.sort((a, b) => a.stride - b.stride)) {
    if (stride <= spanned) {
      refuse(
        'INVALID_VIEW',
        'out',
        `out has strides [${out.strides}] for shape [${out.shape}], so elements overlap.`,
        'Give every element of an output a place of its own.',
      )
    }
    spanned += (size - 1) * stride
  }
}

function checkLse(lse: Tensor, shape: readonly number[]): void {
  validateTensor(lse, 'lse')
  if (lse.dtype !== 'f32') refuse('INVALID_DTYPE', 'lse', `lse is ${lse.dtype}.`, 'It is always f32.')
  expectShape('lse', lse, shape)
  checkUsage('lse', lse)
  const contiguous = contiguousStrides(shape)
  if (lse.strides.some((stride, axis) => shape[axis]! > 1 && stride !== contiguous[axis]) || lse.offset % 64 !== 0) {
    refuse(
      'INVALID_VIEW',
      'lse',
      `lse has strides [${lse.strides}] and offset ${lse.offset}.`,
      'Pass a contiguous [batch, query_heads, query_length] at an offset that is a multiple of 64 elements.',
    )
  }
}

function checkUsage(name: string, tensor: Tensor): void {
  if ((tensor.buffer.usage & STORAGE) === 0) {
    refuse(
      'INVALID_ARGUMENT',
      name,
      `The buffer of ${name} lacks GPUBufferUsage.STORAGE.`,
      'Create it with STORAGE usage.',
    )
  }
}

/** WebGPU forbids one dispatch to read and write one buffer, whatever the ranges. */
function checkOverlap(tensors: readonly Tensor[], { out, lse }: Pick<AttentionTensors, 'out' | 'lse'>): void {
  const inputs = tensors.map((tensor) => tensor.buffer)
  for (const [name, tensor] of [
    ['out', out],
    ['lse', lse],
  ] as const) {
    if (tensor && inputs.includes(tensor.buffer)) {
      refuse('INVALID_ARGUMENT', name, `${name} shares its buffer with an input.`, 'Give outputs buffers of their own.')
    }
  }
  if (out && lse && out.buffer === lse.buffer) {
    refuse('INVALID_ARGUMENT', 'lse', 'lse shares its buffer with out.', 'Give outputs buffers of their own.')
  }
}

function expectShape(name: string, tensor: Tensor, expected: readonly number[]): void {
  if (tensor.shape.length !== expected.length || tensor.shape.some((size, axis) => size !== expected[axis])) {
    refuse(
      'INVALID_SHAPE',
      name,
      `${name} has shape [${tensor.shape}], expected [${expected}].`,
      'Heads and head_dim come from runtime.use; batch and lengths must agree between tensors.',
    )
  }
}

function refuse(
  code: ConstructorParameters<typeof SparseAttentionError>[0],
  where: string,
  message: string,
  fix: string,
): never {
  throw new SparseAttentionError(code, { message, fix, where })
}
