import { InfermuxError } from '../../common/errors.js';
import type { GivenDispatches } from '../batches/given-dispatches.js';
import type { RoutableReplica } from '../placement/replicas/candidate.js';

/** Ends runs whose answer nobody waits for any more, in replicas that may be killed for that, when others wait. */
export class UnwantedRuns<R extends RoutableReplica> {
  readonly #given: GivenDispatches<R>;
  readonly #isNeeded: () => boolean;
  /** The running replicas that may be killed for it. */
  readonly #replicas = new Set<R>();

  /** @param isNeeded whether requests wait for a replica. */
  constructor(given: GivenDispatches<R>, isNeeded: () => boolean) {
    this.#given = given;
    this.#isNeeded = isNeeded;
  }

  added(replica: R): void {
    if (replica.killsCancelled) this.#replicas.add(replica);
  }

  removed(replica: R): void {
    this.#replicas.delete(replica);
  }

  /** Call it when a request is over or waits. */
  look(): void {
    if (this.#replicas.size === 0) return;
    const isAnyNeeded = this.#isNeeded();
    for (const replica of this.#replicas) {
      if (replica.isLoading || !this.#given.isUnwanted(replica)) continue;
      if (!isAnyNeeded && !this.#given.isWaitedFor(replica)) continue;
      const message = 'its run was cancelled or came too late, and other requests wait (killCancelled)';
      replica.abandon(new InfermuxError('CANCELLED', message));
    }
  }
}
