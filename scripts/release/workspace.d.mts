export interface Manifest {
  readonly name: string
  readonly version: string
  readonly description?: string
  readonly private?: boolean
  readonly publishConfig?: Readonly<Record<string, unknown>>
  readonly repository?: { readonly url: string }
  readonly bin?: Readonly<Record<string, string>>
  readonly dependencies?: Readonly<Record<string, string>>
  readonly devDependencies?: Readonly<Record<string, string>>
  readonly peerDependencies?: Readonly<Record<string, string>>
  readonly peerDependenciesMeta?: Readonly<Record<string, { readonly optional?: boolean }>>
}

export interface WorkspacePackage {
  readonly folder: string
  readonly manifest: Manifest
}

interface RunOptions {
  readonly cwd?: string
  readonly env?: NodeJS.ProcessEnv
}

export const root: string
export function run(
  file: string,
  args: readonly string[],
  options?: RunOptions,
): Promise<{ stdout: string; stderr: string }>
export function pnpm(args: readonly string[], options?: RunOptions): Promise<{ stdout: string; stderr: string }>
export function readJson(path: string): Promise<unknown>
export function publicPackages(): Promise<WorkspacePackage[]>
export function pack(folder: string, destination: string): Promise<string>
