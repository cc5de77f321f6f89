import { createRuntime, type Runtime } from '@sparse-attention/core'

let shared: Promise<Runtime> | undefined

/**
 * The runtime that all cases of a test file share: compiling is slow on a software adapter, and a device for each case
 * would exhaust it. Never skipped: without an adapter it rejects with WEBGPU_UNAVAILABLE, and the cases fail.
 */
export function testRuntime(): Promise<Runtime> {
  shared ??= createRuntime()
  return shared
}
