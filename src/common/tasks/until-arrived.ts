import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';

/** Time in which what was sent before has arrived. */
const ON_ITS_WAY_MS = 100;
/** So many times that long is waited at most. */
const MOST_TRIES = 10;

/**
 * Resolves when what others had sent before has very likely arrived, and has been read: after a moment in which nothing came
 * and this thread was not held up. A thread that gets no processor reads late what arrived long ago.
 *
 * @param count of what has come so far.
 */
export async function untilArrived(count: () => number): Promise<void> {
  for (let tries = 0; tries < MOST_TRIES; tries += 1) {
    const [began, before] = [performance.now(), count()];
    await sleep(ON_ITS_WAY_MS);
    // After the timers the loop reads what has arrived.
    await nextTurn();
    if (count() === before && performance.now() - began < 2 * ON_ITS_WAY_MS) return;
  }
}
