import { mkdtemp, rm } from 'node:fs/promises'
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { runServer } from 'verdaccio'

export interface LocalRegistry extends AsyncDisposable {
  readonly url: string
  /** The versions of a package that it holds; none of one that was never published. */
  versions(name: string): Promise<string[]>
}

/** Starts verdaccio on a free port of this machine, empty and with no other registry behind it. */
export async function startRegistry(): Promise<LocalRegistry> {
  const storage = await mkdtemp(join(tmpdir(), 'sparse-attention-registry-'))
  const configuration = {
    storage,
    self_path: storage,
    uplinks: {},
    packages: { '**': { access: '$all', publish: '$all' } },
    auth: { htpasswd: { file: join(storage, 'htpasswd') } },
    // The package of models holds their weights.
    max_body_size: '100mb',
    web: { enable: false },
    log: { type: 'stdout', format: 'pretty', level: 'fatal' },
  }
  // Its types ask for every setting that a file may have; it takes their defaults.
  const server: Server = await runServer(configuration as unknown as Parameters<typeof runServer>[0])
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`

  async function versions(name: string): Promise<string[]> {
    const answer = await fetch(`${url}${name.replace('/', '%2f')}`)
    if (answer.status === 404) return []
    const { versions } = (await answer.json()) as { versions: Record<string, unknown> }
    return Object.keys(versions)
  }

  async function dispose(): Promise<void> {
    server.closeAllConnections()
    await new Promise<void>((resolve) => server.close(() => resolve()))
    await rm(storage, { recursive: true, force: true })
  }
  return { url, versions, [Symbol.asyncDispose]: dispose }
}
