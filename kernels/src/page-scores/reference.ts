/** Quest's bound of q · k over a page: `bounds` are its minima, then its maxima (arXiv 2406.10774, §3.3). */
export function pageScoreReference(q: ArrayLike<number>, bounds: ArrayLike<number>): number {
  let sum = 0
  for (let c = 0; c < q.length; c++) sum += Math.max(q[c]! * bounds[c]!, q[c]! * bounds[q.length + c]!)
  return sum
}
