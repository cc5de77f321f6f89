import { describeMethod } from '@sparse-attention/testing'
import { dense } from './method.js'
import { denseReference } from './reference.js'

describeMethod(dense, { reference: denseReference })
