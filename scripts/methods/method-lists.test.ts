import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { MethodFactory } from '@sparse-attention/core'
import { expect, test } from 'vitest'
import {
  factoryName,
  indexModule,
  methodFolders,
  methodPackages,
  methodsModule,
  withMethodTable,
} from './method-lists.js'

/*
 * What follows from a method's folder is written, not edited: `pnpm methods` writes it, and this test sees that it was run.
 */
const root = join(import.meta.dirname, '..', '..')

test.each(methodPackages)('the lists of %s hold the methods that have a folder', async (name) => {
  const ids = methodFolders(name)
  const source = join(root, 'packages', name, 'src')
  await expect(methodsModule(ids)).toMatchFileSnapshot(join(source, 'methods.ts'))
  await expect(indexModule(ids)).toMatchFileSnapshot(join(source, 'index.ts'))
})

test.each(methodPackages)('a folder of %s is named as the id of its method, and its factory after it', async (name) => {
  for (const id of methodFolders(name)) {
    const module = (await import(join(root, 'packages', name, 'src', id, 'method.ts'))) as Record<string, MethodFactory>
    expect(module[factoryName(id)]?.definition.id).toBe(id)
  }
})

test('the table in the README is what the methods say of themselves', async () => {
  const { methods: kernels } = await import('@sparse-attention/kernels')
  const methods: MethodFactory[] = [...kernels]
  for (const name of methodPackages) {
    for (const id of methodFolders(name)) {
      const module = (await import(join(root, 'packages', name, 'src', id, 'method.ts'))) as Record<
        string,
        MethodFactory
      >
      methods.push(module[factoryName(id)]!)
    }
  }
  const path = join(root, 'README.md')
  await expect(withMethodTable(readFileSync(path, 'utf8'), methods)).toMatchFileSnapshot(path)
})
