/** A mistake to be made on purpose, and the tests that must notice it. */
export interface Mutation {
  /** Names it on the command line: `pnpm test:mutation -t top-p-nan`. */
  readonly id: string
  /** The mistake, in words. */
  readonly mistake: string
  /** Source file, from the root of the repository. */
  readonly file: string
  /** Text that stands in the file exactly once. */
  readonly find: string
  readonly replace: string
  /** A test file, and a part of the names of its cases: at least one of them must fail. */
  readonly caughtBy: { readonly file: string; readonly name: string }
  /** Part of the README's test command, which has no time for all of them. */
  readonly everyRun?: true
}

/**
 * - `caught`: a check of a test failed;
 * - `survived`: the tests passed;
 * - `void`: nothing was learned, since the mutant did not apply, did not compile, took too long or crashed.
 */
export type Verdict = 'caught' | 'survived' | 'void'

export interface Outcome {
  readonly verdict: Verdict
  /** The case that caught it; for `void`, where it went wrong. */
  readonly by: string
  /** What that case said, in one line. */
  readonly message: string
  /** Cases that ran to their end. */
  readonly cases: number
  readonly seconds: number
}
