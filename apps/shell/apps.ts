/** One app of the site: its folder, and what the landing page and the header call it. */
export interface AppEntry {
  /** The folder under `apps/`. */
  readonly id: string
  readonly title: string
  /** One sentence for the landing page. */
  readonly summary: string
}

export const apps: readonly AppEntry[] = [
  {
    id: 'playground',
    title: 'Playground',
    summary: 'Compare methods: what each one keeps, what that costs in accuracy, and how long it takes on your GPU.',
  },
  { id: 'chat', title: 'Chat', summary: 'A small language model that reads long texts with sparse attention.' },
  { id: 'video', title: 'Video', summary: 'A small diffusion model that makes videos with sparse attention.' },
  { id: 'vision', title: 'Vision', summary: 'An image classifier, and which regions of a photo attend to which.' },
]

/** Address of an app, or of the landing page, from a page of the site. Relative: the site works in any folder. */
export function appHref(to: 'home' | string, from: 'home' | string): string {
  const root = from === 'home' ? './' : '../'
  return to === 'home' ? root : `${root}${to}/`
}
