import { InfermuxError } from '../../common/errors.js';
import type { GivenDispatches } from '../batches/given-dispatches.js';
import type { RoutableReplica } from '../placement/replicas/candidate.js';

/** Ends runs whose answer nobody waits for any more, in replicas that may be killed for that, when others wait. */
export class UnwantedRuns<R extends RoutableReplica> {
  readonly #given: GivenDispatches<R>;
  readonly #waiting: () => number;
  /** The running replicas that may be killed for it. */
  readonly #replicas = new Set<R>();
  /** Replicas that were killed, and whose successors do not run yet. */
  #killed = 0;

  /** @param waiting requests that wait though no replica is free. */
  constructor(given: GivenDispatches<R>, waiting: () => number) {
    this.#given = given;
    this.#waiting = waiting;
  }

  added(replica: R): void {
    this.#killed = Math.max(0, this.#killed - 1);
    if (replica.killsCancelled) this.#replicas.add(replica);
  }

  removed(replica: R): void {
    this.#replicas.delete(replica);
  }

  /** Call it when a request is over or waits. */
  look(): void {
    if (this.#replicas.size === 0) return;
    for (const replica of this.#replicas) {
      if (replica.isLoading || !this.#given.isUnwanted(replica)) continue;
      // One for each that waits is enough.
      if (this.#waiting() <= this.#killed && !this.#given.isWaitedFor(replica)) continue;
      this.#killed += 1;
      const message = 'its run was cancelled or came too late, and other requests wait (killCancelled)';
      replica.abandon(new InfermuxError('CANCELLED', message));
    }
  }
}
