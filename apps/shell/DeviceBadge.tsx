import { Badge, Text } from '@mantine/core'
import type { ReactElement } from 'react'
import type { DeviceInfo } from './device.js'
import classes from './shell.module.css'

/** What the page computes on. Says plainly when it is no GPU. */
export function DeviceBadge({ device }: { device: DeviceInfo | undefined }): ReactElement | null {
  if (device === undefined) return null
  return (
    <div className={classes.row} data-testid="device" data-tier={device.tier} data-software={device.software}>
      <Text size="sm">
        {device.name}
        {device.implementation && `, ${device.implementation}`}
      </Text>
      <Badge variant="light" tt="none">
        tier {device.tier}
      </Badge>
      {device.software && (
        <Text size="sm" fw={600}>
          This is a software adapter: it computes on the CPU, so sizes are small and times say nothing about GPUs.
        </Text>
      )}
    </div>
  )
}
