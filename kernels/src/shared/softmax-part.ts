import { LOWEST } from './wgsl.js'

/**
 * WGSL of a softmax in parts: a part of a row is vec2(largest score, Σ exp(score − largest)), and parts add up in any
 * grouping. Scores are in natural units and ordered; the lowest finite number weighs nothing.
 */

/** `softmax_part(scores)` of four scores. */
export const softmaxPartFunction: string = `\
// (largest, Σ exp(score − largest)). The clamp keeps the difference of huge scores finite.
fn softmax_part(scores: vec4<f32>) -> vec2<f32> {
  let largest = max(max(scores.x, scores.y), max(scores.z, scores.w));
  let terms = exp(max(scores - largest, vec4<f32>(-1000.0)));
  let weights = select(terms, vec4<f32>(), scores == vec4<f32>(${LOWEST}));
  return vec2<f32>(largest, (weights.x + weights.y) + (weights.z + weights.w));
}`

/** `join_parts(a, b)` of two parts. */
export const joinPartsFunction: string = `\
fn join_parts(a: vec2<f32>, b: vec2<f32>) -> vec2<f32> {
  let largest = max(a.x, b.x);
  return vec2<f32>(largest, a.y * exp(max(a.x - largest, -1000.0)) + b.y * exp(max(b.x - largest, -1000.0)));
}`
