import type { ModelQueues } from '../queues/model-queues.js';
import { HeldKeys } from './held-keys.js';
import type { RoutableReplica } from './replicas/candidate.js';

/** A replica that a model may be tried on. */
export type TryingReplica = Pick<RoutableReplica, 'models' | 'isTrying'>;

/** The replicas that have a model or are loading it. */
export interface WarmReplicas {
  warm(modelKey: string): readonly { readonly replica: TryingReplica }[];
}

/**
 * Knows which models are on trial: models that have never loaded here, and that a replica is loading. No other replica
 * loads such a model meanwhile, so that a load which harms or does not end harms one replica and no more.
 */
export class LoadTrials {
  readonly #queues: ModelQueues;
  readonly #replicas: WarmReplicas;
  /** Models that replicas were loading when they left, and still are. */
  readonly #leaving = new HeldKeys();
  /** Those that wait for the end of a trial, by model key. */
  readonly #waiters = new Map<string, (() => void)[]>();

  constructor(queues: ModelQueues, replicas: WarmReplicas) {
    this.#queues = queues;
    this.#replicas = replicas;
  }

  isOnTrial(modelKey: string): boolean {
    if (this.#queues.find(modelKey)?.hasLoaded === true) return false;
    let isTried = this.#leaving.has(modelKey);
    for (const { replica } of this.#replicas.warm(modelKey)) {
      if (replica.models.get(modelKey) === 'loaded') return false;
      isTried ||= replica.isTrying(modelKey);
    }
    return isTried;
  }

  /** A replica takes no more requests in the middle of a load of the model. @param gone resolves when its thread is gone. */
  left(modelKey: string, gone: Promise<unknown>): void {
    this.#leaving.add(modelKey, gone);
  }

  /** Resolves when a load of the model has ended. Look again then: the trial may go on. */
  untilEnd(modelKey: string): Promise<void> {
    return new Promise((resolve) => {
      const waiters = this.#waiters.get(modelKey) ?? [];
      waiters.push(resolve);
      this.#waiters.set(modelKey, waiters);
    });
  }

  /** Call it after a load of the model ended, in whatever way. */
  loadEnded(modelKey: string): void {
    const waiters = this.#waiters.get(modelKey) ?? [];
    this.#waiters.delete(modelKey);
    for (const resolve of waiters) resolve();
  }
}
