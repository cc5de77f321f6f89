import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { cacheFolder } from '../../packages/core/src/node/cache.js'

/** What a process needs to find lavapipe, and nothing else, as its Vulkan. */
export type LavapipeEnvironment = Readonly<Record<string, string>>

/**
 * The lavapipe that `scripts/install-lavapipe.sh` has unpacked, if it is there and Dawn takes it: Mesa's Vulkan on the
 * CPU, which has shader-f16 and subgroups, where SwiftShader has neither.
 */
export function findLavapipe(): LavapipeEnvironment | undefined {
  const folder = join(cacheFolder() ?? '', 'lavapipe')
  const driver = join(folder, 'lvp_icd.json')
  if (process.platform !== 'linux' || !existsSync(driver)) return undefined
  const environment = {
    // The loader and the driver's own libraries; read when a process starts.
    LD_LIBRARY_PATH: [folder, process.env.LD_LIBRARY_PATH].filter(Boolean).join(':'),
    VK_ICD_FILENAMES: driver,
    // What it has compiled, for the next run: compiling is nearly all of its time.
    MESA_SHADER_CACHE_DIR: join(folder, '..', 'lavapipe-shaders'),
    SPARSE_ATTENTION_ADAPTER: 'auto',
  }
  return hasHalves(environment) ? environment : undefined
}

/** Looks from a process of its own, as a test's will be: a driver that is there may still lack a library. */
function hasHalves(environment: LavapipeEnvironment): boolean {
  const core = join(import.meta.dirname, '../../packages/core/package.json')
  const dawn = createRequire(core).resolve('webgpu')
  const program = `
    import { create } from ${JSON.stringify(dawn)}
    globalThis.gpu = create([])
    const adapter = await gpu.requestAdapter()
    process.exit(adapter?.features.has('shader-f16') && adapter.features.has('subgroups') ? 0 : 1)`
  try {
    execFileSync(process.execPath, ['--input-type=module', '--eval', program], {
      env: { ...process.env, ...environment },
      stdio: 'ignore',
      timeout: 30_000,
    })
    return true
  } catch {
    return false
  }
}
