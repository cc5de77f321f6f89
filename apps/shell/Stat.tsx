import type { ReactElement, ReactNode } from 'react'
import classes from './shell.module.css'

/** Figures with their names, as a description list. */
export function Stats({ children }: { children: ReactNode }): ReactElement {
  return <dl className={classes.stats}>{children}</dl>
}

/** One figure. Inside `<Stats>`. */
export function Stat({ label, value, id }: { label: string; value: ReactNode; id?: string }): ReactElement {
  return (
    <div>
      <dt>{label}</dt>
      <dd data-testid={id}>{value}</dd>
    </div>
  )
}
