import type { Clock } from '../../../common/clock.js';
import { Candidate, type RoutableReplica } from './candidate.js';
import type { ReplicaIndex } from './replica-index.js';

/** The running replicas: those that routers choose from are in the index, the express replica is not. */
export class Candidates<R extends RoutableReplica> {
  readonly #index: ReplicaIndex<Candidate<R>>;
  readonly #clock: Clock;
  readonly #candidates = new Map<R, Candidate<R>>();
  #express: Candidate<R> | undefined;

  /** @param index replicas are added to it, and deleted from it. */
  constructor(index: ReplicaIndex<Candidate<R>>, clock: Clock) {
    this.#index = index;
    this.#clock = clock;
  }

  /** The express replica, while there is one. */
  get express(): Candidate<R> | undefined {
    return this.#express;
  }

  of(replica: R): Candidate<R> | undefined {
    return this.#candidates.get(replica);
  }

  has({ replica }: Candidate<R>): boolean {
    return this.#candidates.has(replica);
  }

  all(): IterableIterator<Candidate<R>> {
    return this.#candidates.values();
  }

  add(replica: R): Candidate<R> {
    const candidate = new Candidate(replica, this.#clock);
    this.#candidates.set(replica, candidate);
    if (replica.isExpress) this.#express = candidate;
    else this.#index.add(candidate);
    return candidate;
  }

  /** @returns the candidate that the replica was; undefined when it is unknown. */
  delete(replica: R): Candidate<R> | undefined {
    const candidate = this.#candidates.get(replica);
    if (candidate === undefined) return undefined;
    this.#candidates.delete(replica);
    this.#index.delete(candidate);
    if (this.#express === candidate) this.#express = undefined;
    candidate.cancelTimer?.();
    return candidate;
  }
}
