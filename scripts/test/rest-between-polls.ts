/*
 * While Dawn's binding for Node waits for a GPU, it asks again in every turn of the event loop, through setImmediate: a core
 * full of asking, which the software adapter then lacks. In tests it asks once a millisecond. On two cores this takes 38 %
 * off the CPU time of a file of the conformance suite; what is computed stays the same.
 */
const { setImmediate: immediate, setTimeout: later } = globalThis

/** Dawn's callback is native code without a name, and takes no arguments. */
function isPoll(callback: (...args: never[]) => void, args: readonly unknown[]): boolean {
  return (
    args.length === 0 &&
    callback.name === '' &&
    /\{ \[native code\] \}$/.test(Function.prototype.toString.call(callback))
  )
}

globalThis.setImmediate = Object.assign((callback: (...args: unknown[]) => void, ...args: unknown[]) => {
  return isPoll(callback, args) ? later(callback, 1) : immediate(callback, ...args)
}, immediate) as typeof setImmediate
