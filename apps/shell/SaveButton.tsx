import { Button, type ButtonProps } from '@mantine/core'
import type { ReactElement } from 'react'

export interface SaveButtonProps extends ButtonProps {
  /** Name of the file. */
  readonly name: string
  /** What it will hold; asked for when the button is pressed. */
  readonly content: () => Blob | string | Promise<Blob | string>
  readonly children: string
}

/** Saves something that was made here as a file of the user's. */
export function SaveButton({ name, content, children, ...props }: SaveButtonProps): ReactElement {
  const save = async (): Promise<void> => {
    const made = await content()
    const url = URL.createObjectURL(typeof made === 'string' ? new Blob([made]) : made)
    const link = document.createElement('a')
    link.href = url
    link.download = name
    link.click()
    // The download has begun by then; Safari reads the address a little later.
    setTimeout(() => URL.revokeObjectURL(url), 10_000)
  }
  return (
    <Button variant="default" {...props} onClick={save}>
      {children}
    </Button>
  )
}
