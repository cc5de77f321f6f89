import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { vi } from 'vitest'

/** For tests: runs a program that the page shows, and gives the rows of the table that it prints. */
export async function runCode(code: string): Promise<Record<string, unknown>[]> {
  const folder = await mkdtemp(join(tmpdir(), 'sparse-attention-code-'))
  const table = vi.spyOn(console, 'table').mockImplementation(() => {})
  try {
    const file = join(folder, 'code.ts')
    await writeFile(file, code)
    await import(/* @vite-ignore */ file)
    return table.mock.calls[0]![0] as Record<string, unknown>[]
  } finally {
    table.mockRestore()
    await rm(folder, { recursive: true })
  }
}
