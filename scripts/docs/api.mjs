// Writes the API reference of the site, docs/api, from the packages' sources. A link in a docstring that leads nowhere is an error.
import { rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

const root = join(import.meta.dirname, '..', '..')
const docs = join(root, 'docs')
const out = join(docs, 'api')
// They are dependencies of the site, not of the repository's root.
const { resolve } = createRequire(join(docs, 'package.json'))
const { Application } = await import(pathToFileURL(resolve('typedoc')).href)

/** Packages with an API that programs use; the command line has its own page. */
const packages = ['core', 'prefill', 'decode', 'diffusion', 'vision', 'onnxruntime', 'models', 'testing']

rmSync(out, { recursive: true, force: true })
const app = await Application.bootstrapWithPlugins({
  entryPoints: ['kernels/src/index.ts', ...packages.map((name) => `packages/${name}/src/index.ts`)].map((path) =>
    join(root, path),
  ),
  basePath: root,
  tsconfig: join(root, 'tsconfig.json'),
  plugin: [resolve('typedoc-plugin-markdown')],
  name: 'API',
  readme: 'none',
  router: 'module',
  fileExtension: '.md',
  hideBreadcrumbs: true,
  hidePageHeader: true,
  entryFileName: 'index.md',
  // The gate type-checks; what is not exported is described where it is used.
  skipErrorChecking: true,
  // Shapes such as `[B, H]: …` read like definitions of links, which is no fault.
  validation: { notExported: false, invalidLink: true, invalidPath: false, notDocumented: false },
  treatValidationWarningsAsErrors: true,
  excludeInternal: true,
  disableSources: true,
  githubPages: false,
  logLevel: 'Error',
})
const project = await app.convert()
if (!project) process.exit(1)
// A page is called what its package is: core, not packages/core/src.
for (const module of project.children ?? []) module.name = module.name.replace(/^(?:packages\/)?(.+?)(?:\/src)?$/, '$1')
await app.outputs.writeOutput({ name: 'markdown', path: out }, project)
app.validate(project)
if (app.logger.hasErrors()) process.exit(1)
