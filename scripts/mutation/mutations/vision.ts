import type { Mutation } from '../mutation.js'

const regions = 'kernels/src/grid-regions/emit.ts'
const regionsTest = 'kernels/src/grid-regions/grid-regions.gpu.test.ts'
const route = 'kernels/src/route-regions/emit.ts'
const routeTest = 'kernels/src/route-regions/route-regions.gpu.test.ts'
const windows = 'packages/vision/src/shifted-windows/method.ts'
const windowsTest = 'packages/vision/src/shifted-windows/shifted-windows.gpu.test.ts'

export const vision: readonly Mutation[] = [
  {
    id: 'region-past-the-grid',
    mistake: 'Regions at the bottom reach past the grid, as if padding were tokens.',
    file: regions,
    find: 'min((row + 1u) * u.region_height - u.cut_top, u.height)',
    replace: '(row + 1u) * u.region_height - u.cut_top',
    caughtBy: { file: regionsTest, name: 'sizes that 7 does not divide' },
  },
  {
    id: 'windows-shifted-down-only',
    mistake: 'Shifted windows are cut at the top, but not at the left.',
    file: regions,
    find: 'max(column * u.region_width, u.cut_left) - u.cut_left',
    replace: 'column * u.region_width',
    caughtBy: { file: regionsTest, name: 'order and starts: shifted windows' },
  },
  {
    id: 'region-sum-of-first-part',
    mistake: 'A region is as its first tokens are: the parts of its sum are not added up.',
    file: regions,
    find: 'var part = 1u; part < parts; part++',
    replace: 'var part = 1u; part < 1u; part++',
    caughtBy: { file: regionsTest, name: 'sums of integers are exact' },
  },
  {
    id: 'route-ties-to-last',
    mistake: 'Of regions with the same affinity the last ones win.',
    file: route,
    find: 'var other = 0u; other < c; other++',
    replace: 'var other = c + 1u; other < u.regions; other++',
    caughtBy: { file: routeTest, name: 'ties go to the lower index' },
  },
  {
    id: 'route-by-sums',
    mistake: 'Regions are ranked by sums, so that large ones come first.',
    file: route,
    find: 'affinity[c] * weight_of(c)',
    replace: 'affinity[c]',
    caughtBy: { file: routeTest, name: 'regions of four sizes' },
  },
  {
    id: 'route-by-first-keys',
    mistake: 'Heads that route together all look at the keys of the first of them.',
    file: route,
    find: 'let kv_head = head / u.group_size;',
    replace: 'let kv_head = first_head / u.group_size;',
    caughtBy: { file: routeTest, name: 'one routing for all heads' },
  },
  {
    id: 'routes-always-per-head',
    mistake: 'Every head routes for itself, whatever the option says.',
    file: 'packages/vision/src/bilevel-routing/method.ts',
    find: "routing === 'shared' ? config.queryHeads : 1",
    replace: '1',
    caughtBy: { file: 'packages/vision/src/bilevel-routing/bilevel-routing.gpu.test.ts', name: 'shared by all heads' },
  },
  {
    id: 'even-layers-shifted',
    mistake: 'The layers whose windows should stay are shifted, the others stay.',
    file: windows,
    find: '(frame.context.layer ?? 0) % 2 === 1',
    replace: '(frame.context.layer ?? 0) % 2 === 0',
    caughtBy: { file: windowsTest, name: 'layers of odd index' },
  },
  {
    id: 'whole-side-shifted',
    mistake: 'A window that is as long as the shorter side is shifted too.',
    file: windows,
    find: 'window < Math.min(height, width)',
    replace: 'window < Math.max(height, width)',
    caughtBy: { file: windowsTest, name: 'no window is shifted that' },
  },
]
