import { readFileSync } from 'node:fs'
import { join } from 'node:path'

/**
 * The headers of `public/_headers`, which static hosts (Cloudflare Pages, Netlify) read themselves, for Vite's servers: one
 * file says what holds everywhere.
 */
export function siteHeaders(): Record<string, string> {
  const lines = readFileSync(join(import.meta.dirname, 'public', '_headers'), 'utf8').split('\n')
  return Object.fromEntries(
    lines
      .filter((line) => line.startsWith('  '))
      .map((line) => {
        const colon = line.indexOf(':')
        return [line.slice(0, colon).trim(), line.slice(colon + 1).trim()]
      }),
  )
}

/**
 * The policy as a built page says it itself, for hosts that send no headers, such as GitHub Pages: all of it but who may frame the
 * page, which only a header can say.
 */
export function policyOfPages(): string {
  const directives = siteHeaders()['Content-Security-Policy']!.split('; ')
  return directives.filter((directive) => !directive.startsWith('frame-ancestors')).join('; ')
}

/** In place of a nonce on the development server, whose pages are nobody else's. */
export const developmentNonce = 'development'

/**
 * The same for the development server: Vite puts styles and the code that reloads into the page itself, and talks over a
 * web socket. Nothing of that is in a built page.
 */
export function developmentHeaders(): Record<string, string> {
  const headers = siteHeaders()
  const policy = headers['Content-Security-Policy']!.replace(
    "script-src 'self'",
    `script-src 'self' 'nonce-${developmentNonce}'`,
  )
    .replace("style-src 'self'", `style-src 'self' 'nonce-${developmentNonce}'`)
    .replace("connect-src 'self'", "connect-src 'self' ws:")
  return { ...headers, 'Content-Security-Policy': policy }
}
