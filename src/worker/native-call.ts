import { InfermuxError } from '../common/errors.js';
import { type ReplicaCounters, STOP_LEVELS, type StopLevel } from '../protocol/queue-counters.js';

/**
 * Makes a call into native code, announced in the replica's counters before it begins: the process aborts when a thread
 * is ended inside such a call. The call itself may happen in a later turn of this thread; it counts as begun from here
 * on.
 *
 * @param highestStop the highest stop level at which the call may still begin.
 * @throws InfermuxError `REPLICA_FAILED` when the thread must stop: then nothing is called.
 */
export async function nativeCall<T>(
  counters: ReplicaCounters,
  call: () => Promise<T>,
  highestStop: StopLevel = STOP_LEVELS.none,
): Promise<T> {
  if (!counters.enterNativeCall(highestStop)) throw stopping();
  try {
    return await call();
  } finally {
    counters.leaveNativeCall();
  }
}

/** The error of work that a stopping thread refuses. */
export function stopping(): InfermuxError {
  return new InfermuxError('REPLICA_FAILED', 'the replica is stopping');
}
