import { Alert, Code, List, Text } from '@mantine/core'
import { type ReactElement, type ReactNode, useEffect, useState } from 'react'

/** What a browser has of what the apps need. */
export interface GpuSupportReport {
  /** The apps can run. */
  readonly usable: boolean
  /** What is missing, in sentences. Also where the apps can run, with less. */
  readonly lacks: readonly string[]
}

/** Asks the browser; makes no device. */
export async function gpuSupport(): Promise<GpuSupportReport> {
  const lacks: string[] = []
  if (!isSecureContext) lacks.push('The page is not served over HTTPS or from localhost; WebGPU is only given there.')
  if (!('gpu' in navigator) || navigator.gpu === undefined) {
    lacks.push('This browser has no WebGPU (navigator.gpu is missing).')
    return { usable: false, lacks }
  }
  const adapter = await navigator.gpu.requestAdapter().catch(() => null)
  if (adapter === null) {
    lacks.push('This browser has WebGPU, but found no graphics adapter for it.')
    return { usable: false, lacks }
  }
  if (!crossOriginIsolated) {
    lacks.push(
      'The page is not cross-origin isolated (its host leaves out the headers), so models use one CPU thread and timers are coarse.',
    )
  }
  return { usable: true, lacks }
}

/** Undefined until the browser has answered. */
export function useGpuSupport(): GpuSupportReport | undefined {
  const [report, setReport] = useState<GpuSupportReport>()
  useEffect(() => {
    let current = true
    gpuSupport().then((found) => current && setReport(found))
    return () => {
      current = false
    }
  }, [])
  return report
}

/** Shows its children where the browser can run them, else what it lacks and what to do. */
export function GpuGate({ waiting, children }: { waiting: ReactNode; children: ReactNode }): ReactNode {
  const report = useGpuSupport()
  if (report === undefined) return waiting
  if (!report.usable) return <MissingGpu lacks={report.lacks} />
  return (
    <>
      {report.lacks.length > 0 && <Lacks lacks={report.lacks} />}
      {children}
    </>
  )
}

/** One line on the landing page. */
export function GpuSupport(): ReactElement | null {
  const report = useGpuSupport()
  if (report === undefined) return null
  if (!report.usable) return <MissingGpu lacks={report.lacks} />
  if (report.lacks.length > 0) return <Lacks lacks={report.lacks} />
  return <Text data-testid="gpu-support">This browser has what the apps need.</Text>
}

function Lacks({ lacks }: { lacks: readonly string[] }): ReactElement {
  return (
    <Alert color="yellow" title="This browser can run the apps, with less">
      {lacks.join(' ')}
    </Alert>
  )
}

function MissingGpu({ lacks }: { lacks: readonly string[] }): ReactElement {
  return (
    <Alert color="red" title="This browser cannot run the apps" role="alert" data-testid="missing-gpu">
      <List>
        {lacks.map((lack) => (
          <List.Item key={lack}>{lack}</List.Item>
        ))}
      </List>
      <Text mt="sm">
        What helps: a current Chrome, Edge, Safari or Firefox with hardware acceleration switched on in its settings,
        and an up-to-date graphics driver. On Linux, Chrome may need WebGPU to be switched on at{' '}
        <Code>chrome://flags/#enable-unsafe-webgpu</Code>.
      </Text>
    </Alert>
  )
}
