import { describeMethod } from './describe-method.js'
import { faultyMethod, firstElementReference } from './faulty-method.js'

// The suite passes a method that is right; mistakes.test.ts has it find what is wrong with others.
describeMethod(faultyMethod('none'), { reference: firstElementReference })
