export { mean, median, percentile } from '@sparse-attention/compare'
