import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { SparseAttentionError } from '../errors.js'

const require: NodeJS.Require = createRequire(import.meta.url)

/** An installed package: where it lies and which version it is. */
export interface InstalledPackage {
  readonly folder: string
  readonly version: string
}

/**
 * Finds an optional peer dependency without loading it.
 *
 * @throws MISSING_DEPENDENCY when it is not installed
 */
export function findPackage(name: string, purpose: string): InstalledPackage {
  let folder: string
  try {
    folder = dirname(require.resolve(name))
  } catch (cause) {
    throw new SparseAttentionError('MISSING_DEPENDENCY', {
      message: `${purpose} needs the package ${name}, which is not installed.`,
      fix: `Run \`npm install ${name}\`.`,
      where: name,
      cause,
    })
  }
  // `package.json` need not be among a package's exports, so walk up to it from the entry point.
  for (;;) {
    const version = versionOf(folder, name)
    if (version !== undefined) return { folder, version }
    const parent = dirname(folder)
    if (parent === folder) {
      throw new SparseAttentionError('MISSING_DEPENDENCY', {
        message: `The installed package ${name} has no package.json.`,
        fix: `Run \`npm install ${name}\` again.`,
        where: name,
      })
    }
    folder = parent
  }
}

function versionOf(folder: string, name: string): string | undefined {
  try {
    const manifest: unknown = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
    const { name: found, version } = manifest as { name?: unknown; version?: unknown }
    return found === name && typeof version === 'string' ? version : undefined
  } catch {
    return undefined
  }
}
