/** For a number field's `onChange`: takes numbers, and waits while what is typed is none yet. */
export const ifNumber =
  (take: (value: number) => void) =>
  (value: number | string): void => {
    if (typeof value === 'number') take(value)
  }
