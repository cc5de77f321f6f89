import type { Citation } from '@sparse-attention/core'

/** The paper of the three patterns that MInference gives to heads. */
export const minference: Citation = {
  title: 'MInference 1.0: Accelerating Pre-filling for Long-Context LLMs via Dynamic Sparse Attention',
  authors: 'Jiang, Li, Zhang, Wu, Luo, Ahn, Han, Abdi, Li, Lin, Yang, Qiu',
  year: 2024,
  arxiv: '2407.02490',
  url: 'https://arxiv.org/abs/2407.02490',
}
