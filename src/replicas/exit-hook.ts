import { type ReplicaCounters, STOP_LEVELS } from '../protocol/queue-counters.js';

/** Counters of the threads that are up, each with the longest time that an exit may wait for it. */
const guarded = new Map<ReplicaCounters, number>();

/**
 * Makes `process.exit()` and an uncaught error wait until the replica's thread is in no native call: ending it there
 * would abort the process. Bounded by `longestMs`, because a run cannot be cancelled and may never return.
 *
 * @returns takes the guard away; to be called when the thread has ended.
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
  // All flags before the first wait: while one thread is waited for, no other may begin a call.
  for (const counters of guarded.keys()) counters.raiseStop(STOP_LEVELS.exiting);
  const startedAt = Date.now();
  for (const [counters, longestMs] of guarded) counters.blockUntilOutsideNativeCall(startedAt + longestMs);
}
