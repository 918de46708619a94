import type { ReplicaCounters } from '../../protocol/queue-counters.js';

export type WaitCounters = Pick<ReplicaCounters, 'posted' | 'othersAtWork' | 'sleepUntilPosted'>;

/** About the time that it takes to fall asleep and be woken. */
const LONGEST_SPIN_MS = 0.1;
const LONGEST_SHORT_WAIT_MS = 0.2;
/**
 * Short waits in a row after which the thread spins. So many are the rhythm of a caller that asks as soon as it is
 * answered; requests at random times are close to each other only now and then. A thread that has spun in vain has used
 * up its share of the core, so the system lets it wait when it is needed: the 99th percentile of such requests doubles.
 */
const SPIN_AFTER_WAITS = 8;
/** Reads of the counter between two looks at the clock and at the other replicas. */
const LOOKS = 64;

/**
 * Waits for the next message of a replica's thread. If the last messages came soon, it spins for a moment; then it
 * sleeps in `Atomics.wait`. So a caller that asks again as soon as it is answered meets a thread that is awake. The
 * thread spins only while there is a core for it beside the calling thread and the busy replicas: otherwise it would
 * take time from the threads that it waits for.
 *
 * Spinning for as long as the sleep costs is never worse than twice the optimum: Karlin, Li, Manasse, Owicki,
 * "Empirical Studies of Competitive Spinning for a Shared-Memory Multiprocessor", SOSP 1991.
 */
export class MessageWait {
  readonly #counters: WaitCounters;
  readonly #cores: number;
  readonly #now: () => number;
  /** Short waits since the last long one. */
  #shortWaits = 0;

  /** @param cores that the process may use. */
  constructor(counters: WaitCounters, cores: number, now: () => number) {
    this.#counters = counters;
    this.#cores = cores;
    this.#now = now;
  }

  /** Messages posted so far. Read it before looking for a message, and pass it to `untilPosted` if there was none. */
  get posted(): number {
    return this.#counters.posted;
  }

  /** Blocks the thread until there are more messages than these. */
  untilPosted(posted: number): void {
    const startedAt = this.#now();
    const isWorthwhile = this.#shortWaits >= SPIN_AFTER_WAITS;
    if (!isWorthwhile || !this.#spin(posted, startedAt)) this.#counters.sleepUntilPosted(posted);
    this.#shortWaits = this.#now() - startedAt <= LONGEST_SHORT_WAIT_MS ? this.#shortWaits + 1 : 0;
  }

  /** Spins for a while. @returns whether a message came meanwhile. */
  #spin(posted: number, startedAt: number): boolean {
    while (this.#counters.othersAtWork < this.#cores - 1 && this.#now() - startedAt < LONGEST_SPIN_MS) {
      for (let look = 0; look < LOOKS; look += 1) if (this.#counters.posted !== posted) return true;
    }
    return false;
  }
}
