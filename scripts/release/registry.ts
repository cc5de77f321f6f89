import { createServer, type IncomingMessage, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'

interface Published {
  readonly versions: Record<string, { dist: { tarball: string } }>
  readonly tags: Record<string, string>
  readonly tarballs: Map<string, Buffer>
}

/** What `npm publish` sends. */
interface Publication {
  readonly name: string
  readonly 'dist-tags': Record<string, string>
  readonly versions: Published['versions']
  readonly _attachments: Record<string, { readonly data: string }>
}

/** A package registry in memory: as much of npm's protocol as publishing and installing take, and no other registry behind it. */
export interface LocalRegistry extends AsyncDisposable {
  readonly url: string
  /** What was published, and which of it has been downloaded since. */
  readonly published: ReadonlySet<string>
  readonly downloaded: Set<string>
  /** What was asked for that nobody published. */
  readonly unknown: Set<string>
}

/** Starts on a free port of this machine. */
export async function startRegistry(): Promise<LocalRegistry> {
  const packages = new Map<string, Published>()
  const downloaded = new Set<string>()
  const unknown = new Set<string>()
  const published = new Set<string>()
  let url = ''

  async function answer(request: IncomingMessage): Promise<{ status: number; body: unknown }> {
    // `@scope%2fname`, `@scope/name/-/name-1.0.0.tgz`
    const path = decodeURIComponent(new URL(request.url!, url).pathname).slice(1)
    if (request.method === 'PUT') return publish(await bodyOf(request))
    const [name = '', file] = path.split('/-/')
    const known = packages.get(name)
    if (!known) {
      unknown.add(path)
      return { status: 404, body: { error: 'not found' } }
    }
    if (file === undefined) {
      return { status: 200, body: { name, 'dist-tags': known.tags, versions: known.versions } }
    }
    downloaded.add(name)
    return { status: 200, body: known.tarballs.get(file)! }
  }

  function publish(sent: Publication): { status: number; body: unknown } {
    const { name, versions, _attachments: attachments } = sent
    const known = packages.get(name) ?? { versions: {}, tags: {}, tarballs: new Map<string, Buffer>() }
    for (const [version, manifest] of Object.entries(versions)) {
      if (version in known.versions) return { status: 403, body: { error: `${name} ${version} is published already` } }
      const file = `${name.split('/').at(-1)}-${version}.tgz`
      const [attachment] = Object.values(attachments)
      known.tarballs.set(file, Buffer.from(attachment!.data, 'base64'))
      manifest.dist.tarball = `${url}${name}/-/${file}`
      known.versions[version] = manifest
    }
    Object.assign(known.tags, sent['dist-tags'])
    packages.set(name, known)
    published.add(name)
    return { status: 201, body: { ok: true } }
  }

  const server = createServer((request, response) => {
    answer(request).then(
      ({ status, body }) => {
        const bytes = Buffer.isBuffer(body)
        response.writeHead(status, { 'content-type': bytes ? 'application/octet-stream' : 'application/json' })
        response.end(bytes ? body : JSON.stringify(body))
      },
      (error: unknown) => {
        response.writeHead(500)
        response.end(String(error))
      },
    )
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
  return { url, published, downloaded, unknown, [Symbol.asyncDispose]: () => close(server) }
}

async function bodyOf(request: IncomingMessage): Promise<Publication> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  return JSON.parse(Buffer.concat(chunks).toString('utf8')) as Publication
}

function close(server: Server): Promise<void> {
  server.closeAllConnections()
  return new Promise((resolve) => server.close(() => resolve()))
}
