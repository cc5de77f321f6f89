import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { defineConfig } from 'vitepress'
import { deadLinks } from './built-links.js'
import { siteLink } from './links.js'

const docs = join(import.meta.dirname, '..')

interface Item {
  readonly text: string
  readonly link: string
}

const titleOf = (path: string) =>
  /^# (.+)$/m.exec(readFileSync(join(docs, path), 'utf8'))?.[1]?.replaceAll('`', '') ?? path

/** The pages of a folder by title, and those that lie there when the site is built: new ones appear by themselves. */
function pagesOf(folder: string): Item[] {
  let files: string[] = []
  try {
    files = readdirSync(join(docs, folder))
  } catch {}
  return files
    .filter((file) => file.endsWith('.md') && !/^(?:README|index)\.md$/.test(file))
    .sort()
    .map((file) => ({ text: titleOf(`${folder}/${file}`), link: `/${folder}/${file.slice(0, -3)}` }))
}

function existing(items: readonly Item[]): Item[] {
  const all = new Set(readdirSync(docs))
  return items.filter(({ link }) => all.has(`${link.slice(1)}.md`))
}

const guide: Item[] = [
  ['Start in the browser', 'browser'],
  ['Start in Node', 'node'],
  ['Which method?', 'which-method'],
  ['In an onnxruntime-web app', 'onnxruntime-web'],
  ['Long prompts', 'long-prompts'],
  ['Decoding from pages', 'decoding'],
  ['Video', 'video'],
  ['Vision', 'vision'],
  ['State and grids', 'state-and-grids'],
  ['Write a method', 'write-a-method'],
  ['Errors', 'errors'],
  ['Platforms', 'platforms'],
].map(([text, page]) => ({ text: text!, link: `/guide/${page}` }))

const apps = pagesOf('apps')

export default defineConfig({
  title: 'sparse-attention',
  description: 'Published sparse attention methods for WebGPU, in browsers and in Node',
  lang: 'en',
  // Where the site lies on its host, with slashes: DOCS_BASE=/sparse-attention/ for a project's pages.
  base: process.env.DOCS_BASE ?? '/',
  cleanUrls: true,
  lastUpdated: false,
  srcExclude: ['examples/**'],
  rewrites: { 'benchmarks/README.md': 'benchmarks/index.md' },
  ignoreDeadLinks: false,
  markdown: {
    // Braces are text here.
    attrs: { disable: true },
    config(md) {
      const fence = md.renderer.rules.fence!
      // Schemas are for programs: folded, and without colours, which would take a tenth of the build.
      md.renderer.rules.fence = (tokens, index, ...rest) => {
        const { info, content } = tokens[index]!
        if (info !== 'json schema') return fence(tokens, index, ...rest)
        const code = `<pre v-pre class="schema"><code>${md.utils.escapeHtml(content)}</code></pre>`
        return `<details class="details custom-block"><summary>Schema of its JSON</summary>${code}</details>\n`
      }
      md.core.ruler.push('site-links', ({ tokens, env }) => {
        for (const token of tokens)
          for (const child of token.children ?? []) {
            // A page of an app may come before its screenshot, which a browser on a GPU takes: the text stands in its place.
            const picture = child.type === 'image' ? child.attrGet('src') : null
            const missing = picture !== null && !existsSync(join(docs, dirname(env.relativePath), picture))
            if (missing && env.relativePath.startsWith('apps/')) child.type = 'text'
            const href = child.type === 'link_open' ? child.attrGet('href') : null
            if (href !== null)
              child.attrSet(
                'href',
                siteLink(href, env.realPath ? env.realPath.slice(docs.length + 1) : env.relativePath),
              )
          }
      })
    },
  },
  vite: {
    // The packages' own Vite serves the apps; this one only this folder.
    build: { chunkSizeWarningLimit: 4096, reportCompressedSize: false },
    plugins: [
      {
        // What renders the pages is thrown away when they are: nobody waits for a smaller one.
        name: 'whole-renderer',
        config: (_, { isSsrBuild }) => (isSsrBuild ? { build: { rollupOptions: { treeshake: false } } } : undefined),
      },
    ],
  },
  // Wide tables take the place of the outline.
  transformPageData({ relativePath, frontmatter }) {
    if (['methods/index.md', 'packages.md', 'api/index.md'].includes(relativePath)) frontmatter.aside = false
  },
  buildEnd({ outDir, site }) {
    const dead = deadLinks(outDir, site.base)
    if (dead.length > 0) throw new Error(`Links that lead nowhere:\n${dead.join('\n')}`)
  },
  themeConfig: {
    search: {
      provider: 'local',
      options: {
        // An index of words needs no colours, which take half of the time of rendering.
        _render(source, env, md) {
          const { highlight } = md.options
          md.options.highlight = null
          try {
            const html = md.render(source, env)
            return env.frontmatter?.search === false ? '' : html
          } finally {
            md.options.highlight = highlight
          }
        },
      },
    },
    outline: [2, 3],
    nav: [
      // Where the apps lie beside the site.
      ...(process.env.DOCS_APPS ? [{ text: 'Try it', link: process.env.DOCS_APPS, target: '_self' }] : []),
      { text: 'Guide', link: '/guide/browser' },
      { text: 'Methods', link: '/methods/' },
      { text: 'Benchmarks', link: '/benchmarks/' },
      { text: 'API', link: '/api/' },
      ...(apps.length > 0 ? [{ text: 'Apps', items: apps }] : []),
    ],
    sidebar: {
      '/api/': [
        { text: 'API', link: '/api/' },
        {
          text: 'Packages',
          items: pagesOf('api'),
        },
      ],
      '/': [
        {
          text: 'Guide',
          items: [
            ...guide,
            { text: 'Packages', link: '/packages' },
            { text: 'Tuning', link: '/tuning' },
            { text: 'Command line', link: '/cli' },
          ],
        },
        {
          text: 'Methods',
          collapsed: true,
          items: [{ text: 'All methods', link: '/methods/' }, ...pagesOf('methods')],
        },
        {
          text: 'How it works',
          items: existing([
            { text: 'Architecture', link: '/architecture' },
            { text: 'Primitives', link: '/primitives' },
            { text: 'Reliability', link: '/reliability' },
            { text: 'Threat model', link: '/threat-model' },
            { text: 'Mutation tests', link: '/mutation' },
          ]),
        },
        {
          text: 'Benchmarks',
          collapsed: true,
          items: [{ text: 'All figures', link: '/benchmarks/' }, ...pagesOf('benchmarks')],
        },
        ...(apps.length > 0 ? [{ text: 'Apps', collapsed: true, items: apps }] : []),
        {
          text: 'Project',
          items: [
            { text: 'Changes', link: '/changelog' },
            { text: 'API', link: '/api/' },
          ],
        },
      ],
    },
    socialLinks: [{ icon: 'github', link: 'https://github.com/sparse-attention/sparse-attention' }],
    footer: { message: 'Apache-2.0' },
  },
})
