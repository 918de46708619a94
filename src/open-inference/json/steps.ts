/** Work that may be interrupted wherever it yields. A step takes about 0.1 ms. */
export type Steps<T> = Generator<void, T>;

/** Milliseconds of work in one turn of the event loop. */
const TURN_MS = 2;

/** Does all the work now. */
export function doAtOnce<T>(steps: Steps<T>): T {
  for (;;) {
    const { done, value } = steps.next();
    if (done === true) return value;
  }
}

/** Does the work in several turns of the event loop, so that others are served in between. */
export async function doInTurns<T>(steps: Steps<T>): Promise<T> {
  for (;;) {
    const end = performance.now() + TURN_MS;
    do {
      const { done, value } = steps.next();
      if (done === true) return value;
    } while (performance.now() < end);
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
}
