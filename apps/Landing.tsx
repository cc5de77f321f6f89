import { Anchor, Card, Text, Title } from '@mantine/core'
import type { ReactElement } from 'react'
import { appHref, apps } from './shell/apps.js'
import { GpuSupport } from './shell/gpu-support.js'
import classes from './shell/shell.module.css'

/** What there is, and whether this browser can run it. */
export function Landing(): ReactElement {
  return (
    <>
      <Text className={classes.lead}>
        Everything on these pages is computed here, on your GPU, through WebGPU. No text, picture or tensor leaves your
        machine.
      </Text>
      <GpuSupport />
      <ul className={classes.cards}>
        {apps.map(({ id, title, summary }) => (
          <li key={id}>
            <Card withBorder className={classes.card}>
              <Title order={2} size="h3">
                <Anchor href={appHref(id, 'home')}>{title}</Anchor>
              </Title>
              <Text>{summary}</Text>
            </Card>
          </li>
        ))}
      </ul>
    </>
  )
}
