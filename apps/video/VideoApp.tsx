import { Text } from '@mantine/core'
import { describeScene } from '@sparse-attention/models'
import { type ReactElement, useState } from 'react'
import { DeviceBadge } from '../shell/DeviceBadge.js'
import { formatShare } from '../shell/format.js'
import { JobStatus } from '../shell/JobStatus.js'
import shell from '../shell/shell.module.css'
import { Controls } from './Controls.js'
import { ExportPanel } from './ExportPanel.js'
import { Findings } from './Findings.js'
import { SkipMapView } from './SkipMapView.js'
import { Stage } from './Stage.js'
import { useVideos } from './use-videos.js'
import { videoDensity } from './videos.js'

export function VideoApp(): ReactElement {
  const { opening, making, videos, make } = useVideos()
  const [step, setStep] = useState<number>()
  const [framesPerSecond, setFramesPerSecond] = useState(8)
  const opened = opening.result

  const last = (videos?.sparse.length ?? 0) - 1
  const shown = Math.min(step ?? last, last)
  const [dense, sparse] = [videos?.dense[shown], videos?.sparse[shown]]
  const title = opened?.info.methods.find(({ id }) => id === videos?.request.method)?.title ?? 'Sparse'
  const density = videos && videoDensity(videos)

  return (
    <>
      <Text className={shell.lead}>
        drifters-7m, a diffusion model of 7 million weights, makes the same video twice from the same noise: with exact
        attention, and with attention that leaves out what matters little. After each step both panes show the estimate
        of the finished video.
      </Text>
      <DeviceBadge device={opened?.device} />
      <JobStatus job={opening} retry="Load the model" />
      {opened && (
        <div className={shell.columns}>
          <Controls
            info={opened.info}
            running={making.running}
            onMake={(request) => {
              setStep(undefined)
              make(request)
            }}
          />
          <div className={shell.stack}>
            <JobStatus job={making} />
            <Stage
              videos={videos}
              step={step}
              onStep={setStep}
              framesPerSecond={framesPerSecond}
              onFramesPerSecond={setFramesPerSecond}
              sparseTitle={title}
            />
            {videos && <Findings videos={videos} />}
            <SkipMapView
              look={sparse?.look}
              step={shown + 1}
              layers={opened.info.layers}
              heads={opened.info.heads}
              branches={videos?.request.guidance === 1 ? ['conditional'] : ['conditional', 'unconditional']}
            />
            {videos && dense && sparse && (
              <ExportPanel
                framesPerSecond={framesPerSecond}
                name={describeScene(videos.request.scene).replaceAll(' ', '-')}
                panels={[
                  { label: 'dense', frames: dense.frames },
                  {
                    label: density === undefined ? title : `${title}, density ${formatShare(density)}`,
                    frames: sparse.frames,
                  },
                ]}
              />
            )}
          </div>
        </div>
      )}
    </>
  )
}
