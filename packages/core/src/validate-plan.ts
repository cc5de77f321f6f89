import { type ErrorCode, SparseAttentionError } from './errors.js'
import type { HostPlan } from './host-plan.js'
import type { AttentionShape } from './method.js'
import type { PlanForm } from './plan.js'

function refuse(code: ErrorCode, where: string, value: unknown, fix: string): never {
  // Plans are saved and sent: what stands in one may be of any type, and of any length.
  const shown = typeof value === 'number' ? value : value === null ? 'null' : `of type ${typeof value}`
  throw new SparseAttentionError(code, { message: `The plan has ${where} ${shown}.`, fix, where })
}

/** Arrays of each kind. */
const arraysOf = {
  block: { bitmap: Uint32Array },
  stripe: { counts: Int32Array, indices: Int32Array },
  'variable-block': { bitmap: Uint32Array, queryStarts: Int32Array, keyStarts: Int32Array },
}

/**
 * Checks that what is said to be a plan has the parts of one, each of its type.
 *
 * @throws INVALID_ARGUMENT
 */
export function checkHostPlan(plan: HostPlan): void {
  checkObject('plan', plan)
  if (!Object.keys(arraysOf).includes(plan.kind))
    refuse('INVALID_ARGUMENT', 'kind', plan.kind, `Use ${Object.keys(arraysOf).join(', ')}.`)
  if (typeof plan.causal !== 'boolean') refuse('INVALID_ARGUMENT', 'causal', plan.causal, 'Use true or false.')
  for (const name of ['batch', 'queryHeads', 'queryLength', 'keyLength'] as const) {
    if (typeof plan[name] !== 'number') refuse('INVALID_ARGUMENT', name, plan[name], 'Use a number.')
  }
  checkArrays('', plan, arraysOf[plan.kind])
  if (plan.kind === 'stripe') {
    if (!Array.isArray(plan.lists)) refuse('INVALID_ARGUMENT', 'lists', plan.lists, 'Use an array.')
    for (const list of plan.lists) checkObject('lists', list)
  }
  if (!('permutation' in plan)) return
  checkObject('permutation', plan.permutation)
  checkArrays('permutation.', plan.permutation, { queries: Int32Array, keys: Int32Array })
}

function checkObject(name: string, value: unknown): void {
  if (typeof value !== 'object' || value === null) refuse('INVALID_ARGUMENT', name, value, 'Use an object.')
}

function checkArrays(
  path: string,
  parts: object,
  types: Readonly<Record<string, Uint32ArrayConstructor | Int32ArrayConstructor>>,
): void {
  for (const [name, type] of Object.entries(types)) {
    const array: unknown = (parts as Readonly<Record<string, unknown>>)[name]
    if (!(array instanceof type)) refuse('INVALID_ARGUMENT', path + name, array, `Use ${type.name}.`)
  }
}

/**
 * Checks what a caller says of a plan, before anything is made of it.
 *
 * @throws INVALID_ARGUMENT for blocks and counts that kernels do not take, INVALID_SHAPE for what does not fit the tensors
 */
export function validatePlan(form: PlanForm, shape: AttentionShape): void {
  switch (form.kind) {
    case 'block':
      checkBlock('blockQ', form.blockQ)
      checkBlock('blockK', form.blockK)
      break
    case 'stripe':
      checkBlock('blockQ', form.blockQ)
      checkHeads('heads', form.heads, form)
      if (form.lists.length < 1 || form.lists.length > 2)
        refuse('INVALID_ARGUMENT', 'lists.length', form.lists.length, 'Use one list or two.')
      for (const { width, capacity } of form.lists) {
        checkCount('width', width)
        checkCount('capacity', capacity)
      }
      break
    case 'variable-block':
      checkHeads('keyHeads', form.keyHeads, form)
      checkCount('queryBlocks', form.queryBlocks)
      checkCount('keyBlocks', form.keyBlocks)
      break
  }
  if ('permutation' in form) {
    checkHeads('permutation.keyHeads', form.permutation.keyHeads, form)
    if (form.causal)
      throw new SparseAttentionError('INVALID_ARGUMENT', {
        message: 'The plan is causal, and its tokens are permuted.',
        fix: 'Permute only where every query sees every key.',
        where: 'permutation',
      })
  }
  for (const name of ['batch', 'queryHeads', 'queryLength', 'keyLength'] as const) {
    if (form[name] !== shape[name])
      refuse('INVALID_SHAPE', name, form[name], `Make it for the shape of the tensors, where it is ${shape[name]}.`)
  }
}

function checkBlock(name: string, size: number): void {
  if (!Number.isSafeInteger(size) || size < 64 || size % 64 !== 0)
    refuse('INVALID_ARGUMENT', name, size, 'Use a positive multiple of 64.')
}

function checkCount(name: string, count: number): void {
  if (!Number.isSafeInteger(count) || count < 1) refuse('INVALID_ARGUMENT', name, count, 'Use a positive integer.')
}

function checkHeads(name: string, heads: number, { queryHeads }: PlanForm): void {
  if (!Number.isSafeInteger(heads) || heads < 1 || queryHeads % heads !== 0)
    refuse('INVALID_SHAPE', name, heads, `Use a divisor of the ${queryHeads} query heads.`)
}
