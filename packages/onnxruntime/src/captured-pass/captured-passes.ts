import { relativeError } from '@sparse-attention/core'
import { reasonOf, rethrowUnrelated } from '../errors.js'
import type { Engine } from '../ort.js'
import { exactPrefill, type ReplacedAttention } from '../replaced-attention.js'
import { type CapturableGraph, CapturedPass, type PassCall } from './captured-pass.js'

/** Of recorded and other passes: the same operators, some in another order of sums. */
const tolerance = 1e-3

/** Shapes whose recordings are kept: those of the two passes of guidance, which mostly are the same. */
const most = 2

/** Recorded passes, made for shapes as they come, and checked. */
export class CapturedPasses {
  readonly #passes = new Map<string, CapturedPass>()
  #reason = 'nothing was sampled yet'
  #refused = false

  constructor(
    private readonly engine: Engine,
    private readonly source: CapturableGraph,
    /** Of the model, by layer. */
    private readonly attentions: ReadonlyMap<number, ReplacedAttention>,
  ) {}

  get used(): boolean {
    return this.#passes.size > 0
  }

  get reason(): string {
    return this.#reason
  }

  /**
   * The pass for the shapes of a call, recorded if it is the first of them: then it is compared, with exact attention, with what
   * `plain` gives. Undefined where it cannot be recorded or differs; `reason` tells. What there was no memory for is tried again
   * in the next call.
   *
   * @param plain the output of the same call with `attention`, computed without
   * @throws OUT_OF_MEMORY, DEVICE_LOST, the signal's reason
   */
  async get(
    call: PassCall,
    output: string,
    plain: (attention: typeof exactPrefill) => Promise<Float32Array>,
  ): Promise<CapturedPass | undefined> {
    const { signal, feeds } = call
    const key = JSON.stringify([output, ...Object.entries(feeds).map(([name, { type, dims }]) => [name, type, dims])])
    const known = this.#passes.get(key)
    if (known || this.#refused) return known
    if (Object.values(feeds).some(({ location }) => location !== 'cpu')) {
      if (!this.used) this.#reason = 'it is fed from the GPU'
      return undefined
    }
    let pass: CapturedPass | undefined
    try {
      while (this.#passes.size >= most) await this.#forgetOldest()
      pass = await CapturedPass.create(this.engine, this.source, this.attentions, call, output)
      const checked = { ...call, method: exactPrefill, state: undefined }
      const unrecorded = await pass.check(checked, tolerance)
      const expected = await plain(exactPrefill)
      const { output: recorded } = await pass.submit(checked)
      const error = relativeError((await recorded).values, expected)
      if (error <= tolerance) {
        this.#passes.set(key, pass)
        const without =
          unrecorded.length === 0 ? '' : `, without ${unrecorded.join(', ')}, which would come out different`
        this.#reason = `passes are recorded${without}`
        return pass
      }
      await pass.dispose()
      return this.#refuse(`the first recorded pass had a relative error of ${error.toExponential(1)}`)
    } catch (error) {
      await pass?.dispose()
      rethrowUnrelated(error, this.engine.runtime, signal)
      return this.#refuse(`onnxruntime-web cannot record it: ${reasonOf(error)}`)
    }
  }

  /** What was fed may be changed by its owner from here on. */
  forgetFeeds(): void {
    for (const pass of this.#passes.values()) pass.forget()
  }

  #refuse(reason: string): undefined {
    this.#refused = true
    this.#reason = reason
  }

  async #forgetOldest(): Promise<void> {
    const [key, pass] = [...this.#passes][0]!
    this.#passes.delete(key)
    await pass.dispose()
  }

  async dispose(): Promise<void> {
    while (this.#passes.size > 0) await this.#forgetOldest()
  }
}
