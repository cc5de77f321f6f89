import { defineConfig } from 'tsdown'

export default defineConfig({
  // A method is a folder with an index.
  entry: ['src/index.ts', 'src/*/index.ts'],
  root: 'src',
  format: 'esm',
  platform: 'neutral',
  dts: true,
  sourcemap: true,
  fixedExtension: false,
})
