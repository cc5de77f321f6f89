/**
 * JSON with a line for each field, and for each element of a field that is an array of objects: short, and a changed figure is a
 * changed line.
 */
export function resultJson(report: object): string {
  const fields = Object.entries(report).map(([name, value]) => `${JSON.stringify(name)}: ${fieldJson(value)}`)
  return `{\n${fields.join(',\n')}\n}\n`
}

function fieldJson(value: unknown): string {
  const items = Array.isArray(value) && value.some((item) => typeof item === 'object' && item !== null)
  return items ? `[\n${value.map((item) => JSON.stringify(item)).join(',\n')}\n]` : JSON.stringify(value)
}
