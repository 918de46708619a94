import { getPriority, setPriority } from 'node:os';

/** As `nice` does it: a tenth of the weight that the calling thread has where both want a core. */
const NICE = 10;

/**
 * Lets the calling thread go first where there are not cores enough for all: a model that keeps every core busy would
 * otherwise hold its event loop up by a time slice or two, several milliseconds, whenever it wakes. Other processes that
 * want the core go before the replica, too.
 *
 * Linux alone counts niceness by thread, and takes 0 for the present one; elsewhere this would change the whole process.
 */
export function lowerThreadPriority(): void {
  if (process.platform !== 'linux') return;
  try {
    setPriority(0, Math.min(19, getPriority(0) + NICE));
  } catch {
    // Where the system does not allow it, everything works as well, if not as smoothly.
  }
}
