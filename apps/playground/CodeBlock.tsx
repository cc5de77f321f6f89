import { Button, CopyButton } from '@mantine/core'
import type { ReactElement } from 'react'
import classes from '../shell/shell.module.css'
import styles from './playground.module.css'

/** Code with a button that copies it. */
export function CodeBlock({ code }: { code: string }): ReactElement {
  return (
    <div className={classes.stack}>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable from the keyboard */}
      <section className={styles.code} aria-label="Code" tabIndex={0}>
        <pre data-testid="code">{code}</pre>
      </section>
      <CopyButton value={code}>
        {({ copied, copy }) => (
          <div>
            <Button variant="default" onClick={copy}>
              {copied ? 'Copied' : 'Copy the code'}
            </Button>
          </div>
        )}
      </CopyButton>
    </div>
  )
}
