/** A dispatch with the objects that its maker keeps. */
export interface TapedDispatch {
  readonly pipeline: GPUComputePipeline
  /** At group 0, without dynamic offsets. */
  readonly group: GPUBindGroup
  readonly workgroups: Parameters<GPUComputePassEncoder['dispatchWorkgroups']>
}

/**
 * The dispatches that some work puts into command encoders of a device, in order. They can be recorded again with `recordTape`, in
 * the place of the work, if it does the same every time.
 *
 * @returns undefined where the work does anything else with the GPU, such as a copy, or a dispatch whose size the GPU tells
 */
export async function tapeDispatches(
  device: GPUDevice,
  work: () => Promise<unknown>,
): Promise<TapedDispatch[] | undefined> {
  const tape: TapedDispatch[] = []
  let other = false
  const onOther = () => {
    other = true
  }
  const restores = [
    override(device, 'createCommandEncoder', (create) => (descriptor) => {
      const encoder = create(descriptor)
      watchEncoder(encoder, tape, onOther)
      return encoder
    }),
    ...otherCalls(device.queue, harmless.queue).map((name) => notice(device.queue, name, onOther)),
  ]
  try {
    await work()
  } finally {
    for (const restore of restores) restore()
  }
  return other ? undefined : tape
}

/** Whether two tapes are the same, object by object. */
export function sameTapes(a: readonly TapedDispatch[], b: readonly TapedDispatch[]): boolean {
  return (
    a.length === b.length &&
    a.every(({ pipeline, group, workgroups }, i) => {
      const other = b[i]!
      return pipeline === other.pipeline && group === other.group && workgroups.join() === other.workgroups.join()
    })
  )
}

/** Records what is on a tape. */
export function recordTape(encoder: GPUCommandEncoder, tape: readonly TapedDispatch[]): void {
  if (tape.length === 0) return
  const pass = encoder.beginComputePass()
  let bound: GPUComputePipeline | undefined
  for (const { pipeline, group, workgroups } of tape) {
    if (pipeline !== bound) pass.setPipeline(pipeline)
    bound = pipeline
    pass.setBindGroup(0, group)
    pass.dispatchWorkgroups(...workgroups)
  }
  pass.end()
}

/** Calls that leave nothing on the GPU but what is taped, or nothing at all. */
const harmless = {
  queue: ['submit', 'onSubmittedWorkDone'],
  encoder: ['beginComputePass', 'finish', 'pushDebugGroup', 'popDebugGroup', 'insertDebugMarker'],
  pass: [
    ...['setPipeline', 'setBindGroup', 'dispatchWorkgroups', 'end'],
    ...['pushDebugGroup', 'popDebugGroup', 'insertDebugMarker'],
  ],
} as const

function watchEncoder(encoder: GPUCommandEncoder, tape: TapedDispatch[], onOther: () => void): void {
  override(encoder, 'beginComputePass', (begin) => (descriptor) => {
    const pass = begin(descriptor)
    watchPass(pass, tape, onOther)
    return pass
  })
  for (const name of otherCalls(encoder, harmless.encoder)) notice(encoder, name, onOther)
}

function watchPass(pass: GPUComputePassEncoder, tape: TapedDispatch[], onOther: () => void): void {
  let pipeline: GPUComputePipeline | undefined
  let group: GPUBindGroup | undefined
  override(pass, 'setPipeline', (set) => (given) => {
    pipeline = given
    set(given)
  })
  override(
    pass,
    'setBindGroup',
    (set) =>
      (index: number, given: GPUBindGroup | null | undefined, ...offsets: never[]) => {
        group = given ?? undefined
        if (index !== 0 || offsets.length > 0) onOther()
        ;(set as (...args: unknown[]) => void)(index, given, ...offsets)
      },
  )
  override(pass, 'dispatchWorkgroups', (dispatch) => (...workgroups) => {
    if (pipeline && group) tape.push({ pipeline, group, workgroups })
    else onOther()
    dispatch(...workgroups)
  })
  for (const name of otherCalls(pass, harmless.pass)) notice(pass, name, onOther)
}

/** Puts a method in the place of one, for this object. @returns what puts it back */
function override<T extends object, K extends keyof T>(object: T, name: K, make: (original: T[K]) => T[K]): () => void {
  const own = Object.getOwnPropertyDescriptor(object, name)
  const original = object[name] as (...args: unknown[]) => unknown
  const value = make(((...args: unknown[]) => original.apply(object, args)) as T[K])
  Object.defineProperty(object, name, { value, configurable: true, writable: true })
  return () => {
    if (own) Object.defineProperty(object, name, own)
    else delete object[name]
  }
}

/** Tells of every call of a method. */
function notice<T extends object>(object: T, name: keyof T, onCall: () => void): () => void {
  return override(object, name, (original) => {
    const call = (...args: unknown[]) => {
      onCall()
      return (original as (...args: unknown[]) => unknown)(...args)
    }
    return call as T[keyof T]
  })
}

/** Names of an object's methods but those. */
function otherCalls<T extends object>(object: T, known: readonly string[]): (keyof T)[] {
  const names = new Set<string>()
  for (let of: object = object; of !== Object.prototype; of = Object.getPrototypeOf(of) as object) {
    for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(of))) {
      if (name !== 'constructor' && typeof value === 'function' && !known.includes(name)) names.add(name)
    }
  }
  return [...names] as (keyof T)[]
}
