export { findMethod, registry } from '@sparse-attention/compare'
