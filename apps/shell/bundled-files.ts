// By another name, so that the bundler leaves it alone.
const here = import.meta.url

/**
 * How loaders of `@sparse-attention/models`, which fetch files of one folder, find files that the bundler has renamed.
 *
 * @param files addresses by name, from `import url from '…/model.onnx?url'`
 * @example
 * loadImageClassifier({ ...bundledFiles({ 'model.onnx': modelUrl, 'config.json': configUrl }), signal })
 */
export function bundledFiles(files: Readonly<Record<string, string>>): { from: URL; fetch: typeof fetch } {
  return {
    from: new URL('./', here),
    fetch: (input, init) => {
      const name = String(input).split('/').at(-1)!
      return fetch(new URL(files[name]!, here), init)
    },
  }
}
