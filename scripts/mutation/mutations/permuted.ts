import type { Mutation } from '../mutation.js'

const core = 'packages/core/src'
const kernels = 'kernels/src'
const one = 'packages/diffusion/src/sparse-videogen'
const two = 'packages/diffusion/src/sparse-videogen-2'

/** Tokens in another order: by cluster, by place. */
export const permuted: readonly Mutation[] = [
  {
    id: 'permuted-mask-in-positions',
    mistake: 'What is read from a plan of permuted tokens is in the order of the plan.',
    file: `${core}/host-plan.ts`,
    find: "if (!('permutation' in plan)) return undefined",
    replace: "if (!('permutation' in plan) || plan.batch > 0) return undefined",
    caughtBy: { file: `${core}/host-plan.test.ts`, name: 'a permuted plan is read in tokens' },
  },
  {
    id: 'permuted-plan-anywhere',
    mistake: 'A plan of permuted tokens runs in programs that know of no order.',
    file: `${core}/attention.ts`,
    find: 'if (permutationOf(data) && !this.program.permutedPlans)',
    replace: 'if (permutationOf(data) && this.program.permutedPlans === null)',
    caughtBy: { file: `${core}/plan-view.gpu.test.ts`, name: 'a plan of permuted tokens runs only in programs' },
  },
  {
    id: 'scatter-lse-stays',
    mistake: 'The LSE of permuted rows stays in the order of the plan.',
    file: `${kernels}/scatter-rows/emit.ts`,
    find: 'lse_out[first + row] = lse[first + place];',
    replace: 'lse_out[first + place] = lse[first + place];',
    caughtBy: { file: `${kernels}/scatter-rows/scatter-rows.gpu.test.ts`, name: '70 rows of 24' },
  },
  {
    id: 'permuted-keys-of-kv-heads',
    mistake: 'All heads share one order of keys.',
    file: `${kernels}/permuted-attention/permuted-attention.ts`,
    find: 'heads: permutation.keyHeads }',
    replace: 'heads: 1 }',
    caughtBy: { file: `${kernels}/permuted-attention/permuted-attention.gpu.test.ts`, name: 'of query heads' },
  },
  {
    id: 'clusters-below-p',
    mistake: 'A cluster is left out when the sum before it is p of the total.',
    file: `${kernels}/select-clusters/emit.ts`,
    find: 'return sum <= wanted ||',
    replace: 'return sum < wanted ||',
    caughtBy: {
      file: `${kernels}/select-clusters/select-clusters.gpu.test.ts`,
      name: 'the first one, and the one that crosses p',
    },
  },
  {
    id: 'clusters-empty-scale',
    mistake: 'The score of a cluster without keys makes all others vanish.',
    file: `${kernels}/select-clusters/emit.ts`,
    find: 'if (sizes[first_size + c] != 0u) { largest',
    replace: 'if (u.key_clusters != 0u) { largest',
    caughtBy: {
      file: `${kernels}/select-clusters/select-clusters.gpu.test.ts`,
      name: 'a cluster without keys is not kept',
    },
  },
  {
    id: 'k-means-members',
    mistake: 'Rows that belong to no cluster get one.',
    file: `${kernels}/k-means/emit.ts`,
    find: 'select(u.clusters, label, row < u.members)',
    replace: 'label',
    caughtBy: { file: `${kernels}/k-means/k-means.gpu.test.ts`, name: 'rows that belong to no cluster' },
  },
  {
    id: 'k-means-matrix-norms',
    mistake: 'On matrices, products count once in a distance.',
    file: `${kernels}/k-means/matrix.ts`,
    find: '- 2.0 * ${cells(',
    replace: '- 1.0 * ${cells(',
    caughtBy: { file: `${kernels}/k-means/matrix.test.ts`, name: 'integers: ties go to the lower cluster' },
  },
  {
    id: 'svg2-always-first',
    mistake: 'Each step begins its clusters anew.',
    file: `${two}/method.ts`,
    find: 'const begin = fresh ?',
    replace: 'const begin = entry ?',
    caughtBy: { file: `${two}/sparse-videogen-2.gpu.test.ts`, name: 'goes on from the centroids before' },
  },
  {
    id: 'svg-tie-temporal',
    mistake: 'A head for which both masks are as good is temporal.',
    file: `${kernels}/head-profile/emit.ts`,
    find: 'let temporal = error.y < error.x;',
    replace: 'let temporal = error.y <= error.x;',
    caughtBy: { file: `${kernels}/head-profile/head-profile.gpu.test.ts`, name: 'a tie is spatial' },
  },
  {
    id: 'svg-band-wide',
    mistake: 'A band reaches a block too far on either side.',
    file: `${one}/band.ts`,
    find: 'halfWidth / block - 0.5',
    replace: 'halfWidth / block + 0.5',
    caughtBy: { file: `${one}/sparse-videogen.gpu.test.ts`, name: 'about that share of the blocks' },
  },
]
