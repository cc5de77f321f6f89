import type { Manifest } from './workspace.mjs'

export interface Installed {
  readonly name: string
  /** 0 of our own packages, whose size is that of their row. */
  readonly bytes: number
}

export function installed(folder: string, isOurs: (name: string) => boolean): Installed[]
export function sizeTable(
  rows: readonly {
    readonly manifest: Manifest
    readonly sizes: { readonly tarball: number; readonly bundle?: number }
    readonly others: readonly Installed[]
  }[],
): string
export function withTable(text: string, table: string): string
export function saysTheSame(text: string, table: string): boolean
