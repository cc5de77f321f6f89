import { registry } from '@sparse-attention/compare'
import { dense } from '@sparse-attention/kernels'

/**
 * Methods that can run in a video model, whose tokens all see each other: first those that are made for diffusion.
 */
export function videoMethods(): readonly string[] {
  const fits = registry
    .map(({ definition }) => definition)
    .filter(({ id, capabilities }) => id !== dense.definition.id && capabilities.causal.includes(false))
    .filter(({ capabilities }) => capabilities.queryLength !== 'one' && capabilities.dtypes.includes('f32'))
    .filter(({ capabilities: { grid = 'none', gridAxes = [2, 3] } }) => grid !== 'required' || gridAxes.includes(3))
  const ours = fits.filter(({ phase }) => phase === 'diffusion')
  return [...ours, ...fits.filter(({ phase }) => phase !== 'diffusion')].map(({ id }) => id)
}
