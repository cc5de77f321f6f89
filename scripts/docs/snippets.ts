import { readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import ts from 'typescript'
import { documents } from './documents.js'

const root = join(import.meta.dirname, '..', '..')

/**
 * A piece of TypeScript in a document, with what its page says around it:
 *
 *     <!-- given
 *     declare const q: Tensor
 *     -->
 *
 * right above a fence is what the snippet takes for granted; readers do not see it. `<!-- continues -->` instead says that it goes on
 * from the fence before it on the page, in the same scope. Every fence is a module of its own otherwise.
 */
export interface Snippet {
  /** Path of the document, from the root. */
  readonly document: string
  /** Line of the fence, from 1. */
  readonly line: number
  readonly language: 'ts' | 'tsx'
  readonly code: string
}

const fence =
  /^(?:<!-- (given\n[\s\S]*?|continues )-->\n+)?```(ts|tsx|typescript|js|jsx|javascript)\b[^\n]*\n([\s\S]*?)^```$/gm

/** The snippets of a document. Where one continues another, its lines follow those. */
export function snippetsOf(document: string, text: string): Snippet[] {
  const found: Snippet[] = []
  for (const match of text.matchAll(fence)) {
    const [whole, before = '', language, code] = match as unknown as [string, string | undefined, string, string]
    const opens = match.index + whole.lastIndexOf('```', whole.length - 4 - code.length)
    const line = text.slice(0, opens).split('\n').length
    const last = found.at(-1)
    if (before.startsWith('continues') && !last) throw new Error(`${document}:${line} continues nothing`)
    const scope = before.startsWith('continues') ? `${last!.code}\n` : before.slice('given\n'.length)
    found.push({ document, line, language: /x$/.test(language) ? 'tsx' : 'ts', code: scope + code })
  }
  return found
}

/**
 * What TypeScript says against the snippets, all of them in one program that reads the packages' sources: `document:line message`, with
 * the line of the fence. A module that a snippet imports by a relative path is not looked for: it is the reader's own.
 */
export function checkSnippets(snippets: readonly Snippet[]): string[] {
  const read = ts.readConfigFile(join(root, 'tsconfig.json'), ts.sys.readFile)
  const { options } = ts.parseJsonConfigFileContent(read.config, { ...ts.sys, readDirectory: () => [] }, root)
  const files = new Map(
    snippets.map((snippet) => {
      const name = `${snippet.line}.${relative(dirname(snippet.document), snippet.document)}.snippet.${snippet.language}`
      return [join(root, dirname(snippet.document), name), snippet] as const
    }),
  )
  const host = ts.createCompilerHost({ ...options, jsx: ts.JsxEmit.ReactJSX })
  const { getSourceFile, fileExists, readFile } = host
  host.fileExists = (path) => files.has(path) || fileExists.call(host, path)
  host.readFile = (path) => files.get(path)?.code ?? readFile.call(host, path)
  host.getSourceFile = (path, ...rest) => {
    const snippet = files.get(path)
    // `export {}` makes it a module, in which `await` may stand anywhere.
    if (snippet) return ts.createSourceFile(path, `${snippet.code}\nexport {}\n`, ts.ScriptTarget.ES2022, true)
    return getSourceFile.call(host, path, ...rest)
  }
  const program = ts.createProgram({
    rootNames: [...files.keys()],
    options: { ...options, jsx: ts.JsxEmit.ReactJSX, noEmit: true },
    host,
  })
  return [...files].flatMap(([path, { document, line }]) => {
    const source = program.getSourceFile(path)!
    return [...program.getSyntacticDiagnostics(source), ...program.getSemanticDiagnostics(source)]
      .map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n'))
      .filter((message) => !message.startsWith("Cannot find module './"))
      .map((message) => `${document}:${line} ${message}`)
  })
}

/** The snippets of all documents. */
export function allSnippets(): Snippet[] {
  return documents().flatMap((document) => snippetsOf(document, readFileSync(join(root, document), 'utf8')))
}
