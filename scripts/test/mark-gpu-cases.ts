import { afterEach, beforeEach } from 'vitest'

declare module 'vitest' {
  interface TaskMeta {
    /** The case submitted work to a GPU queue. */
    gpu?: boolean
  }
}

let submits = 0
let counted: GPUQueue | undefined

/** In Node the class appears with the first GPU found, so look around each case. True when it has just appeared. */
function countSubmits(): boolean {
  const queue = (globalThis as { GPUQueue?: { prototype: GPUQueue } }).GPUQueue?.prototype
  if (queue === undefined || queue === counted) return false
  const submit = queue.submit
  queue.submit = function (buffers) {
    submits++
    return submit.call(this, buffers)
  }
  counted = queue
  return true
}

beforeEach(() => {
  countSubmits()
  submits = 0
})

afterEach(({ task }) => {
  const foundInCase = countSubmits()
  if (foundInCase || submits > 0) task.meta.gpu = true
})
