import '@mantine/core/styles.css'
import './shell.css'
import { Loader, MantineProvider, Title } from '@mantine/core'
import { type ComponentType, type ReactElement, StrictMode } from 'react'
import { createRoot } from 'react-dom/client'
import { ErrorBoundary } from './ErrorBoundary.js'
import { GpuGate } from './gpu-support.js'
import { Header } from './Header.js'
import classes from './shell.module.css'

export interface MountOptions {
  /** The app's folder, or `home`. */
  readonly id: string
  /** The page's heading. */
  readonly title: string
  readonly App: ComponentType
  /** Without WebGPU the page says what the browser lacks, and `App` is not shown. Default true. */
  readonly needsGpu?: boolean
}

/** Puts an app into the page's `#app`: theme, header, error boundary, and what to do without WebGPU. */
export function mountApp({ id, title, App, needsGpu = true }: MountOptions): void {
  createRoot(document.querySelector('#app')!).render(
    <StrictMode>
      {/* No style elements: the content security policy forbids them, and shell.css has what they would say. */}
      <MantineProvider
        theme={{ respectReducedMotion: true }}
        defaultColorScheme="auto"
        withCssVariables={false}
        withGlobalClasses={false}
      >
        <Page id={id} title={title}>
          {needsGpu ? (
            <GpuGate waiting={<Loader aria-label="Looking for a GPU" />}>
              <App />
            </GpuGate>
          ) : (
            <App />
          )}
        </Page>
      </MantineProvider>
    </StrictMode>,
  )
}

function Page({ id, title, children }: { id: string; title: string; children: ReactElement }): ReactElement {
  return (
    <>
      <Header current={id} />
      <main id="main" className={classes.main} tabIndex={-1}>
        <Title order={1} size="h2" className={classes.title}>
          {title}
        </Title>
        <ErrorBoundary>{children}</ErrorBoundary>
      </main>
    </>
  )
}
