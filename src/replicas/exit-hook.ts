import { type ReplicaCounters, STOP_LEVELS } from '../protocol/queue-counters.js';

/** Counters of the running threads, each with the most milliseconds that an exit may wait for the thread. */
const guarded = new Map<ReplicaCounters, number>();

/**
 * Makes `process.exit()` and an uncaught error wait until the replica's thread is in no native call: ending the thread
 * there would abort the process. Bounded by `longestMs`, because a run cannot be cancelled and may never return.
 *
 * @returns a function that removes the guard. Call it when the thread has ended.
 */
export function guardExit(counters: ReplicaCounters, longestMs: number): () => void {
  if (guarded.size === 0) process.on('exit', waitForNativeCalls);
  guarded.set(counters, longestMs);
  return () => {
    guarded.delete(counters);
    if (guarded.size === 0) process.off('exit', waitForNativeCalls);
  };
}

function waitForNativeCalls(): void {
  // Raise all flags before the first wait: no other thread may begin a call while this waits for one.
  for (const counters of guarded.keys()) counters.raiseStop(STOP_LEVELS.exiting);
  const startedAt = Date.now();
  for (const [counters, longestMs] of guarded) counters.blockUntilOutsideNativeCall(startedAt + longestMs);
}
