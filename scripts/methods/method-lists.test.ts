import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { MethodFactory } from '@sparse-attention/core'
import { expect, test } from 'vitest'
import {
  exportingFolders,
  factoryName,
  indexModule,
  methodFolders,
  methodPackages,
  methodsModule,
  primitivesOf,
  withFacts,
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
  await expect(indexModule(exportingFolders(name))).toMatchFileSnapshot(join(source, 'index.ts'))
})

test.each(methodPackages)('a folder of %s is named as the id of its method, and its factory after it', async (name) => {
  for (const id of methodFolders(name)) {
    const module = (await import(join(root, 'packages', name, 'src', id, 'method.ts'))) as Record<string, MethodFactory>
    expect(module[factoryName(id)]?.definition.id).toBe(id)
  }
})

/** The methods of a package, from their folders: its lists may be out of date. */
async function methodsOf(name: string): Promise<MethodFactory[]> {
  const methods: MethodFactory[] = []
  for (const id of methodFolders(name)) {
    const module = (await import(join(root, 'packages', name, 'src', id, 'method.ts'))) as Record<string, MethodFactory>
    methods.push(module[factoryName(id)]!)
  }
  return methods
}

async function expectTable(path: string, methods: readonly MethodFactory[], docs: string): Promise<void> {
  await expect(withMethodTable(readFileSync(path, 'utf8'), methods, docs)).toMatchFileSnapshot(path)
}

test('the table in the README is what the methods say of themselves', async () => {
  const { methods: kernels } = await import('@sparse-attention/kernels')
  const packages = await Promise.all(methodPackages.map(methodsOf))
  await expectTable(join(root, 'README.md'), [...kernels, ...packages.flat()], 'docs/methods')
  await expectTable(join(root, 'docs/methods/index.md'), [...kernels, ...packages.flat()], '.')
})

test.each(methodPackages)('so is the table in the README of %s', async (name) => {
  const docs = 'https://github.com/sparse-attention/sparse-attention/blob/main/docs/methods'
  await expectTable(join(root, 'packages', name, 'README.md'), await methodsOf(name), docs)
})

test.each(methodPackages)('the page of each method of %s ends with what the method says of itself', async (name) => {
  for (const method of await methodsOf(name)) {
    const { id } = method.definition
    const path = join(root, 'docs/methods', `${id}.md`)
    await expect(withFacts(readFileSync(path, 'utf8'), method, primitivesOf(name, id))).toMatchFileSnapshot(path)
  }
})

test('so does the page of dense', async () => {
  const { dense } = await import('@sparse-attention/kernels')
  const path = join(root, 'docs/methods/dense.md')
  await expect(withFacts(readFileSync(path, 'utf8'), dense as MethodFactory, [])).toMatchFileSnapshot(path)
})
