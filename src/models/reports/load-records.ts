import type { InfermuxError } from '../../common/errors.js';
import type { ModelReplica } from '../model-replicas.js';

/** The state of one model in one replica. */
export interface ReplicaModelState {
  readonly replica: string;
  readonly state: 'not loaded' | 'loading' | 'loaded' | 'failed';
  /** Why the last load failed. */
  readonly reason?: string;
  /** Milliseconds until a request may start another load; 0: the next one may. */
  readonly nextTryInMs?: number;
}

interface Failure {
  readonly error: InfermuxError;
  readonly nextTryAt: number;
}

/** Remembers the last failed loads, by replica and model key. */
export class LoadRecords {
  readonly #now: () => number;
  readonly #failures = new Map<string, Map<string, Failure>>();

  constructor(now: () => number) {
    this.#now = now;
  }

  failed(replica: string, key: string, error: InfermuxError, nextTryInMs: number): void {
    const ofReplica = this.#failures.get(replica) ?? new Map<string, Failure>();
    this.#failures.set(replica, ofReplica.set(key, { error, nextTryAt: this.#now() + nextTryInMs }));
  }

  loaded(replica: string, key: string): void {
    this.#failures.get(replica)?.delete(key);
  }

  /** Forgets the failures of a replica whose thread is gone: a new thread starts without them. */
  forgetReplica(replica: string): void {
    this.#failures.delete(replica);
  }

  forgetModel(key: string): void {
    for (const ofReplica of this.#failures.values()) ofReplica.delete(key);
  }

  stateOf({ id: replica, models }: ModelReplica, key: string): ReplicaModelState {
    const state = models.get(key);
    if (state !== undefined) return { replica, state };
    const failure = this.#failures.get(replica)?.get(key);
    if (failure === undefined) return { replica, state: 'not loaded' };
    const nextTryInMs = Math.max(0, Math.ceil(failure.nextTryAt - this.#now()));
    return { replica, state: 'failed', reason: failure.error.message, nextTryInMs };
  }
}
