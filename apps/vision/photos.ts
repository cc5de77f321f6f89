import butterfly from '@sparse-attention/models/photos/butterfly.jpg?url'
import elephant from '@sparse-attention/models/photos/elephant.jpg?url'
import flamingo from '@sparse-attention/models/photos/flamingo.jpg?url'
import ketch from '@sparse-attention/models/photos/ketch.jpg?url'
import sunflower from '@sparse-attention/models/photos/sunflower.jpg?url'

/** A photo that comes with the model. No training saw it. */
export interface SamplePhoto {
  readonly name: string
  readonly url: string
}

export const samplePhotos: readonly SamplePhoto[] = [
  { name: 'butterfly', url: butterfly },
  { name: 'elephant', url: elephant },
  { name: 'flamingo', url: flamingo },
  { name: 'ketch', url: ketch },
  { name: 'sunflower', url: sunflower },
]
