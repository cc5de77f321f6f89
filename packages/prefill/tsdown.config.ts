import { defineConfig } from 'tsdown'

export default defineConfig({
  entry: {
    index: 'src/index.ts',
    'a-shape/index': 'src/a-shape/index.ts',
    'minference-block-sparse/index': 'src/minference-block-sparse/index.ts',
    'minference-vertical-slash/index': 'src/minference-vertical-slash/index.ts',
    'xattention/index': 'src/xattention/index.ts',
  },
  format: 'esm',
  platform: 'neutral',
  dts: true,
  sourcemap: true,
  fixedExtension: false,
})
