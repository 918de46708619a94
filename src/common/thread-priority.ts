import { getPriority, setPriority } from 'node:os';

/** The highest niceness. */
const LAST = 19;
/** Steps of `nice`: `behind` has a tenth of the calling thread's weight when both want a core, `last` a seventieth. */
const NICE = { behind: 10, last: LAST } as const;

/**
 * Lets the calling thread go first when there are not enough cores. Otherwise a model that keeps every core busy would
 * delay the calling thread's event loop by a time slice or two, several milliseconds, whenever it wakes. Other
 * processes that want the core go before the replica, too. An express replica keeps its priority: its runs are short,
 * and must not wait for time slices of long ones.
 *
 * Only Linux counts niceness by thread, and takes 0 for the present one. Elsewhere this would change the whole process.
 *
 * @param place `last`: behind the replicas, too.
 */
export function lowerThreadPriority(place: keyof typeof NICE = 'behind'): void {
  if (process.platform !== 'linux') return;
  try {
    setPriority(0, Math.min(LAST, getPriority(0) + NICE[place]));
  } catch {
    // If the system does not allow it, everything works, if less smoothly.
  }
}
