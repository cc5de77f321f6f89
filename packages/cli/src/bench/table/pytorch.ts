import { spawn } from 'node:child_process'
import { join } from 'node:path'
import type { Timing } from '@sparse-attention/compare'
import { packageFolder } from '../../package-info.js'

/** One call of PyTorch's attention: batch 1, f16, timed with CUDA events. */
export interface PyTorchResult {
  readonly backend: 'flash-attention' | 'cudnn'
  readonly length: number
  readonly heads: number
  readonly headDim: number
  readonly causal: boolean
  readonly status: 'timed' | 'wrong result' | 'not available'
  readonly reason: string | null
  /** Of some rows, against float64. */
  readonly checkedError: number | null
  readonly gpu: Timing | null
}

/** What the script beside this package found, or why it found nothing. */
export interface PyTorchReport {
  /** Why there are no results. */
  readonly reason: string | null
  /** Of torch, CUDA, cuDNN and the driver. */
  readonly versions: Readonly<Record<string, string | null>>
  readonly device: string | null
  readonly results: readonly PyTorchResult[]
}

const script = join(packageFolder, 'python', 'time_attention.py')

export interface PyTorchOptions {
  /** The interpreter. */
  readonly python: string
  readonly lengths: readonly number[]
  readonly samples: number
  readonly seed: number
  readonly signal: AbortSignal
}

/**
 * Times PyTorch's attention on this machine, in a process of its own. Whatever it lacks, Python, torch or a GPU, is the
 * report's `reason`.
 */
export async function timePyTorch({ python, lengths, samples, seed, signal }: PyTorchOptions): Promise<PyTorchReport> {
  const argv = [script, '--lengths', lengths.join(','), '--samples', `${samples}`, '--seed', `${seed}`]
  const { code, stdout, stderr } = await capture(python, argv, signal)
  if (code === 0) {
    try {
      return { reason: null, ...(JSON.parse(stdout) as Omit<PyTorchReport, 'reason'>) }
    } catch {
      return noPyTorch(`${python} printed no JSON`)
    }
  }
  const last = stderr.trim().split('\n').at(-1)
  return noPyTorch(last || `${python} ended with code ${code}`)
}

export function noPyTorch(reason: string): PyTorchReport {
  return { reason, versions: {}, device: null, results: [] }
}

function capture(
  command: string,
  argv: readonly string[],
  signal: AbortSignal,
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, argv, { signal, stdio: ['ignore', 'pipe', 'pipe'] })
    let [stdout, stderr] = ['', '']
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text
    })
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text
    })
    child.on('error', (error: NodeJS.ErrnoException) => {
      if (signal.aborted) reject(signal.reason)
      else resolve({ code: null, stdout, stderr: `${command} cannot be started (${error.code ?? error.message})` })
    })
    child.on('close', (code) => resolve({ code, stdout, stderr }))
  })
}
