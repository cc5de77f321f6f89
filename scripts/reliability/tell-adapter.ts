import { writeFileSync } from 'node:fs'
import { testRuntime, testTiers } from '@sparse-attention/testing'
import { expect, test } from 'vitest'
import { everyMethod } from './every-method.js'

// The first unit of `conformance.mjs`: what it runs on, with which tiers, and which methods there are.
test('tells the adapter', async () => {
  const { adapterInfo, software } = await testRuntime()
  const tiers = await testTiers()
  expect(tiers).toContain('portable')
  const { vendor, architecture, device, description } = adapterInfo!
  const report = { adapter: { vendor, architecture, device, description, software }, tiers }
  const methods = everyMethod.map(({ definition }) => definition.id)
  writeFileSync(process.env.SPARSE_ATTENTION_ADAPTER_REPORT!, JSON.stringify({ report, methods }))
})
