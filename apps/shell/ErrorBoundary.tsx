import { Alert, Button } from '@mantine/core'
import { Component, type ErrorInfo, type ReactNode } from 'react'

/** A mistake of ours in drawing the page: says what it was, and offers a fresh page instead of a blank one. */
export class ErrorBoundary extends Component<{ readonly children: ReactNode }, { readonly error: Error | undefined }> {
  override state: { readonly error: Error | undefined } = { error: undefined }

  static getDerivedStateFromError(error: Error): { readonly error: Error } {
    return { error }
  }

  override componentDidCatch(error: Error, info: ErrorInfo): void {
    console.error(error, info.componentStack)
  }

  override render(): ReactNode {
    const { error } = this.state
    if (error === undefined) return this.props.children
    return (
      <Alert color="red" title="This page has a fault" role="alert">
        <p>{error.message}</p>
        <Button onClick={() => location.reload()}>Load the page again</Button>
      </Alert>
    )
  }
}
