import { SegmentedControl, useMantineColorScheme } from '@mantine/core'
import type { ReactElement } from 'react'
import { appHref, apps } from './apps.js'
import classes from './shell.module.css'

const schemes = [
  { value: 'light', label: 'Light' },
  { value: 'dark', label: 'Dark' },
  { value: 'auto', label: 'System' },
] as const

/** Skip link, the apps, and the colour scheme. */
export function Header({ current }: { current: string }): ReactElement {
  // Mantine would stop transitions meanwhile, by a style element, which the security policy forbids.
  const { colorScheme, setColorScheme } = useMantineColorScheme({ keepTransitions: true })
  return (
    <>
      <a className={classes.skip} href="#main">
        Skip to the content
      </a>
      <header className={classes.header}>
        <div className={classes.bar}>
          <a className={classes.brand} href={appHref('home', current)}>
            Sparse Attention
          </a>
          <nav className={classes.nav} aria-label="Apps">
            <ul>
              {apps.map(({ id, title }) => (
                <li key={id}>
                  <a href={appHref(id, current)} {...(id === current ? { 'aria-current': 'page' as const } : {})}>
                    {title}
                  </a>
                </li>
              ))}
            </ul>
          </nav>
          <SegmentedControl
            className={classes.scheme!}
            size="xs"
            aria-label="Colours"
            data={[...schemes]}
            value={colorScheme}
            onChange={(value) => setColorScheme(value as (typeof schemes)[number]['value'])}
          />
        </div>
      </header>
    </>
  )
}
