import { SparseAttentionError } from '@sparse-attention/core'
import type { Tensor } from 'onnxruntime-web'
import { declaredTensor, tensorTypeOf, type ValueInfoProto } from '../onnx.js'
import type { Ort } from '../ort.js'

/** What the inputs of language models hold, by the names that exporters give them. */
export type Role = 'ids' | 'mask' | 'positions' | 'kept'

const roles: Readonly<Record<string, Role>> = {
  input_ids: 'ids',
  attention_mask: 'mask',
  position_ids: 'positions',
  num_logits_to_keep: 'kept',
  logits_to_keep: 'kept',
}

export function roleOf(input: string): Role | undefined {
  return Object.hasOwn(roles, input) ? roles[input] : undefined
}

interface Input {
  readonly name: string
  readonly role: Role
  readonly type: 'int64' | 'int32'
}

/**
 * Feeds of a decoder-only language model, one sequence, that is given the tokens after those that its cache holds.
 */
export class LanguageFeeds {
  readonly #inputs: readonly Input[]

  /** @throws UNSUPPORTED for a model with inputs that are not known here, or without ids or logits */
  constructor(
    private readonly ort: Ort,
    declared: ReadonlyMap<string, ValueInfoProto>,
    outputs: readonly string[],
  ) {
    this.#inputs = [...declared].map(([name, info]) => {
      const role = roleOf(name)
      const type = tensorTypeOf(declaredTensor(info)?.elemType ?? 0)
      if (role && (type === 'int64' || type === 'int32')) return { name, role, type }
      throw notALanguageModel(`it has the input '${name}'${type === undefined ? '' : ` of ${type}`}`, name)
    })
    if (!this.#inputs.some(({ role }) => role === 'ids'))
      throw notALanguageModel("it has no input 'input_ids'", 'model')
    if (!outputs.includes('logits')) throw notALanguageModel("it has no output 'logits'", 'model')
  }

  /** Of `ids`, int64 or int32 as declared, after `past` others. Only the last position needs logits. */
  make(ids: readonly number[], past: number): Record<string, Tensor> {
    const total = past + ids.length
    const values: Record<Role, () => readonly [numbers: readonly number[], dims: readonly number[]]> = {
      ids: () => [ids, [1, ids.length]],
      mask: () => [new Array<number>(total).fill(1), [1, total]],
      positions: () => [ids.map((_, i) => past + i), [1, ids.length]],
      kept: () => [[1], []],
    }
    return Object.fromEntries(
      this.#inputs.map(({ name, role, type }) => {
        const [numbers, dims] = values[role]()
        const data = type === 'int64' ? BigInt64Array.from(numbers, BigInt) : Int32Array.from(numbers)
        return [name, new this.ort.Tensor(type, data, dims)]
      }),
    )
  }
}

function notALanguageModel(reason: string, where: string): SparseAttentionError {
  return new SparseAttentionError('UNSUPPORTED', {
    message: `generate does not know how to feed this model: ${reason}.`,
    fix: `Use run, which takes any feeds; generate knows the inputs ${Object.keys(roles).join(', ')}.`,
    where,
  })
}
