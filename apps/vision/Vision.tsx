import { Button, NativeSelect, Switch, Text, Title } from '@mantine/core'
import { decodeBitmap, parseImageClassifierConfig, seenPart } from '@sparse-attention/models'
import configText from '@sparse-attention/models/checkpoints/kestrel-3m/config.json?raw'
import { type ReactElement, useMemo, useRef, useState } from 'react'
import { connect } from '../shell/connect.js'
import { DeviceBadge } from '../shell/DeviceBadge.js'
import { formatShare } from '../shell/format.js'
import { JobStatus } from '../shell/JobStatus.js'
import { SaveButton } from '../shell/SaveButton.js'
import { Stat, Stats } from '../shell/Stat.js'
import shell from '../shell/shell.module.css'
import { type JobContext, useJob } from '../shell/use-job.js'
import { Answers } from './Answers.js'
import { Coverage } from './Coverage.js'
import type { RegionsDrawing } from './draw-regions.js'
import { PhotoSource } from './PhotoSource.js'
import { type LayerLook, type RoutingSettings, trainedRouting } from './photo-classifier.js'
import { nameRegion, PhotoCanvas, RegionGrid } from './RegionGrid.js'
import { RoutingOptions } from './RoutingOptions.js'
import { reportData } from './report-data.js'
import { reportPicture } from './report-picture.js'
import { attendedShares, coverageOf, coveredMass, type HeadChoice, massOfRegions } from './routes-view.js'
import { useCamera } from './use-camera.js'
import classes from './vision.module.css'
import type { ClassifyRequest, ClassifyResult, VisionApi } from './worker.js'

interface Source {
  readonly name: string
  readonly bitmap: ImageBitmap
}

/** A photo with what was found in it. */
interface Found {
  readonly source: Source
  readonly settings: RoutingSettings
  readonly result: ClassifyResult
  /** Of a frame only this was looked at. */
  readonly frame: ClassifyRequest['frame']
}

interface View {
  readonly layer: number
  readonly head: HeadChoice
  readonly asking: number
}

const config = parseImageClassifierConfig(configText)
const trained = trainedRouting({ config })
const layers = config.stages.flatMap((stage, index) =>
  Array.from({ length: stage.blocks }, () => ({ ...stage, index })),
)
/** The last that routes, where regions mean most, and the region in the middle. */
const firstView: View = { layer: layers.findLastIndex(({ routing }) => routing), head: 'all', asking: 12 }

export function Vision(): ReactElement {
  const client = useMemo(
    () => connect<VisionApi>(() => new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' })),
    [],
  )
  const job = useJob<void>()
  const camera = useCamera()
  const [source, setSource] = useState<Source>()
  const [found, setFound] = useState<Found>()
  const [settings, setSettings] = useState(trained)
  const [compare, setCompare] = useState(true)
  const [view, setView] = useState(firstView)
  const [live, setLive] = useState(false)
  // What a live run takes up with its next frame.
  const latest = useRef({ settings, compare, view, live })
  latest.current = { ...latest.current, settings, compare, view }

  const classify = async (source: Source, { signal, report }: JobContext, frame?: ClassifyRequest['frame']) => {
    const { settings, compare } = latest.current
    const request = { bitmap: source.bitmap, settings, compare, ...(frame && { frame }) }
    const result = await client.call('classify', request, { signal, onReport: report })
    setFound({ source, settings, result, frame })
  }
  const look = (name: string, decode: () => Promise<ImageBitmap | undefined>) =>
    job.run(async (context) => {
      context.report({ label: 'Reading the photo' })
      const bitmap = await decode()
      if (!bitmap) return
      const next = { name, bitmap }
      setSource(next)
      setFound(undefined)
      await classify(next, context)
    })
  const changeLive = (on: boolean) => {
    latest.current.live = on
    setLive(on)
  }
  const runLive = () =>
    job.run(async (context) => {
      changeLive(true)
      let last: Source | undefined
      try {
        const start = performance.now()
        for (let frames = 1; latest.current.live; frames++) {
          const bitmap = await camera.frame()
          if (!bitmap) break
          const next = { name: 'camera', bitmap }
          setSource(next)
          const { layer, asking } = latest.current.view
          const silent = frames > 1 ? { ...context, report: () => {} } : context
          await classify(next, silent, { layer, asking })
          context.report({ label: `Live: ${rate(frames, performance.now() - start)}`, done: frames })
          last?.bitmap.close()
          last = next
        }
      } finally {
        changeLive(false)
      }
      // All layers of what was seen last.
      if (last) await classify(last, context)
    })

  return (
    <>
      <Text className={shell.lead} mb="md">
        kestrel-3m, an image classifier of 3.5 MB, names what is in a photo. Its attention is routed: each of 25 regions
        attends only to the k regions whose mean keys match its mean query best. Choose a photo, then a region.
      </Text>
      <div className={shell.columns}>
        <div className={shell.stack}>
          <PhotoSource
            {...{ camera, live }}
            current={source?.name}
            onSample={({ name, url }) => look(name, async () => decodeBitmap(await (await fetch(url)).blob()))}
            onFile={(file) => look(file.name, () => decodeBitmap(file))}
            onSnapshot={() => look('camera', camera.frame)}
            onLive={(on) => (on ? runLive() : changeLive(false))}
          />
          <RoutingOptions {...{ config, settings, trained }} disabled={false} onChange={setSettings} />
          <Switch
            label="Compare with dense attention"
            checked={compare}
            onChange={(event) => setCompare(event.currentTarget.checked)}
          />
          {source && !job.running && (
            <div>
              <Button onClick={() => job.run((context) => classify(source, context))}>Classify</Button>
            </div>
          )}
          <JobStatus job={job} />
          <DeviceBadge device={found?.result.device} />
        </div>
        {found ? <Results {...{ found, view }} onView={setView} /> : source && <Photo {...source} />}
      </div>
    </>
  )
}

function Photo({ name, bitmap }: Source): ReactElement {
  const seen = useMemo(() => seenPart(bitmap, config), [bitmap])
  return <PhotoCanvas image={bitmap} seen={seen} name={name} />
}

function Results({ found, view, onView }: { found: Found; view: View; onView: (view: View) => void }): ReactElement {
  const { source, settings, result, frame } = found
  const look = result.layers.find(({ layer }) => layer === view.layer)
  const best = result.routed.classes[0]!
  // A frame knows the mass of one region.
  const shown = frame ? { ...view, asking: frame.asking } : view
  return (
    <div className={shell.stack} data-testid="results" data-photo={source.name}>
      <Title order={2} size="h3">
        {source.name}: {best.name.replaceAll('_', ' ')}
      </Title>
      <div className={classes.results}>
        <div className={shell.stack}>
          <ViewOptions {...{ view, onView }} heads={layers[view.layer]!.heads} />
          {look ? (
            <Regions {...{ found, look, view: shown, onView }} />
          ) : (
            <>
              <Photo {...source} />
              <Text>Layer {view.layer} of this frame was not looked at. Classify it to see all layers.</Text>
            </>
          )}
        </div>
        <div className={shell.stack}>
          <Answers {...result} />
          {look && <Coverage look={look} head={shown.head} asking={shown.asking} />}
          <SaveButton
            name={`${source.name.replace(/\.\w+$/, '')}-attention.json`}
            content={() => reportData(source.name, settings, result, config)}
          >
            Save logits and routes
          </SaveButton>
        </div>
      </div>
    </div>
  )
}

function ViewOptions({
  view,
  heads,
  onView,
}: {
  view: View
  heads: number
  onView: (view: View) => void
}): ReactElement {
  return (
    <div className={classes.fields}>
      <NativeSelect
        label="Layer"
        value={view.layer}
        onChange={(event) => onView({ ...view, layer: Number(event.currentTarget.value), head: 'all' })}
        data={config.stages.map(({ grid, routing }, index) => ({
          group: `Stage ${index + 1}: ${grid.join(' × ')} tokens${routing ? '' : ', dense'}`,
          items: layers.flatMap((layer, i) =>
            layer.index === index ? [{ value: String(i), label: `Layer ${i}` }] : [],
          ),
        }))}
      />
      <NativeSelect
        label="Head"
        value={view.head}
        onChange={({ currentTarget: { value } }) => onView({ ...view, head: value === 'all' ? 'all' : Number(value) })}
        data={[
          { value: 'all', label: heads === 1 ? 'The only one' : `All ${heads}, on average` },
          ...(heads === 1
            ? []
            : Array.from({ length: heads }, (_, h) => ({ value: String(h), label: `Head ${h + 1}` }))),
        ]}
      />
    </div>
  )
}

interface RegionsProps {
  readonly found: Found
  readonly look: LayerLook
  readonly view: View
  readonly onView: (view: View) => void
}

function Regions({ found: { source, result }, look, view, onView }: RegionsProps): ReactElement {
  const { head, asking } = view
  const { down, across } = look
  const drawing = useMemo((): RegionsDrawing => {
    const shares = attendedShares(look, head, asking)
    const mass = massOfRegions(look, head, asking)
    return { image: source.bitmap, seen: result.seen, down, across, asking, shares, mass }
  }, [source, result, look, head, asking, down, across])
  const attended = drawing.shares.reduce((count: number, share: number) => count + (share > 0 ? 1 : 0), 0)
  const covered = coveredMass(look, head, asking)
  const save = () =>
    reportPicture({
      title: `${source.name}: ${result.routed.classes[0]!.name.replaceAll('_', ' ')}`,
      subtitle: `kestrel-3m, layer ${look.layer}, ${head === 'all' ? 'all heads' : `head ${head + 1}`}: what ${nameRegion(asking, across).toLowerCase()} attends to`,
      regions: drawing,
      routed: result.routed,
      dense: result.dense,
      coverage: coverageOf(look, head, [asking]),
      topK: look.routes?.topK,
    })
  return (
    <>
      <RegionGrid drawing={drawing} onAsk={(region) => onView({ ...view, asking: region })} />
      <Text aria-live="polite" data-testid="asking">
        {nameRegion(asking, across)} attends to {attended} of {down * across} regions, where {formatShare(covered)} of
        its attention is.
      </Text>
      <Stats>
        <Stat label="Attention covered" value={formatShare(covered)} id="covered" />
        <Stat label="Pairs computed in this layer" value={formatShare(look.density)} id="density" />
      </Stats>
      <SaveButton name={`${source.name.replace(/\.\w+$/, '')}-layer-${look.layer}.png`} content={save}>
        Save the picture
      </SaveButton>
    </>
  )
}

/** Frames of a second, or seconds of a frame. */
function rate(frames: number, ms: number): string {
  const perSecond = (1000 * frames) / ms
  return perSecond >= 1
    ? `${perSecond.toFixed(1)} pictures a second`
    : `${(1 / perSecond).toFixed(1)} seconds a picture`
}
