// Writes the API reference of the site, docs/api, from the packages' sources. A link in a docstring that leads nowhere is an error.
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { publicPackages, root } from '../release/workspace.mjs'

const docs = join(root, 'docs')
const out = join(docs, 'api')
// They are dependencies of the site, not of the repository's root.
const { resolve } = createRequire(join(docs, 'package.json'))
const { Application, Comment } = await import(pathToFileURL(resolve('typedoc')).href)

/** Packages with an API that programs use; the command line has its own page. */
const packages = (await publicPackages()).filter(({ manifest }) => !manifest.bin)
const nameOf = ({ manifest }) => manifest.name.split('/')[1]

/** TypeDoc numbers a name that comes twice on a page, also one that became no heading there: such links lose their number. */
function unnumberAnchors(folder) {
  const pages = new Map(readdirSync(folder).map((file) => [file, readFileSync(join(folder, file), 'utf8')]))
  for (const [file, text] of pages) {
    const linked = text.replace(/\]\((\w+\.md)?#([a-z]+)-1\)/g, (link, page, name) => {
      const there = pages.get(page ?? file)
      const times = [...there.matchAll(/^#+ (\w+)/gm)].filter(([, heading]) => heading.toLowerCase() === name).length
      return times === 1 ? `](${page ?? ''}#${name})` : link
    })
    if (linked !== text) writeFileSync(join(folder, file), linked)
  }
}

rmSync(out, { recursive: true, force: true })
const app = await Application.bootstrapWithPlugins({
  entryPoints: packages.map(({ folder }) => join(folder, 'src/index.ts')),
  basePath: root,
  tsconfig: join(import.meta.dirname, 'tsconfig.json'),
  plugin: [resolve('typedoc-plugin-markdown')],
  name: 'API',
  readme: 'none',
  router: 'module',
  fileExtension: '.md',
  hideBreadcrumbs: true,
  hidePageHeader: true,
  entryFileName: 'index.md',
  // A heading for each property would make pages three times as long.
  parametersFormat: 'table',
  interfacePropertiesFormat: 'table',
  classPropertiesFormat: 'table',
  typeAliasPropertiesFormat: 'table',
  typeDeclarationFormat: 'table',
  propertyMembersFormat: 'table',
  indexFormat: 'table',
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
// A page is called what its package is, core, not packages/core/src, and says what the package is.
for (const module of project.children ?? []) {
  module.name = module.name.replace(/^(?:packages\/)?(.+?)(?:\/src)?$/, '$1')
  const { manifest } = packages.find((entry) => nameOf(entry) === module.name)
  module.comment ??= new Comment([{ kind: 'text', text: `${manifest.description}. \`npm install ${manifest.name}\`` }])
}
await app.outputs.writeOutput({ name: 'markdown', path: out }, project)
unnumberAnchors(out)
app.validate(project)
if (app.logger.hasErrors()) process.exit(1)
