export { type AdapterReport, describeAdapter, nameAdapter } from '@sparse-attention/compare'
