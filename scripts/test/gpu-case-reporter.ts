import { writeFileSync } from 'node:fs'
import type { Reporter, SerializedError, TestModule, Vitest } from 'vitest/node'

interface Counts {
  passed: number
  failed: number
  skipped: number
  gpu: number
}

/** Counts cases, tells how many ran on a GPU in each project, and fails the run when a whole project had none. */
export class GpuCaseReporter implements Reporter {
  #vitest: Vitest | undefined

  onInit(vitest: Vitest): void {
    this.#vitest = vitest
  }

  async onTestRunEnd(modules: readonly TestModule[], errors: readonly SerializedError[]): Promise<void> {
    const vitest = this.#vitest!
    const projects = new Map<string, Counts>()
    for (const { name } of vitest.projects) projects.set(name, { passed: 0, failed: 0, skipped: 0, gpu: 0 })
    for (const module of modules) {
      const counts = projects.get(module.project.name)!
      let failedCases = 0
      for (const test of module.children.allTests()) {
        const { state } = test.result()
        if (state === 'passed') counts.passed++
        else if (state === 'failed') failedCases++
        else counts.skipped++
        if (test.meta().gpu) counts.gpu++
      }
      // A file that cannot be loaded, or whose hooks fail, has no failed case to show for it.
      counts.failed += failedCases === 0 && module.state() === 'failed' ? 1 : failedCases
    }

    const picked =
      modules.length < (await vitest.globTestSpecifications()).length || vitest.config.testNamePattern !== undefined
    const total = { passed: 0, failed: errors.length, skipped: 0 }
    for (const [name, counts] of projects) {
      vitest.logger.log(`  GPU cases in ${name}: ${counts.gpu}`)
      if (counts.gpu === 0 && !picked) {
        vitest.logger.error(`No case of project ${name} ran on a GPU, so its kernels are untested: the run fails.`)
        counts.failed++
        process.exitCode = 1
      }
      total.passed += counts.passed
      total.failed += counts.failed
      total.skipped += counts.skipped
    }
    const report = process.env.SPARSE_ATTENTION_TEST_REPORT
    if (report) writeFileSync(report, `${JSON.stringify({ ...total, projects: Object.fromEntries(projects) })}\n`)
  }
}
