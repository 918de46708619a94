import type { BatchingPolicy } from '../../contracts/batching.js';
import { wideKeyOf } from '../../contracts/model-reference.js';
import type { DefinedModel } from '../../protocol/messages.js';
import type { ReplicaCounters } from '../../protocol/queue-counters.js';
import { checkFeeds, checkOutputNames } from '../../tensors/check-feeds.js';
import { commonRows, type Outputs, type ReadFeeds } from '../../tensors/tensor.js';
import type { ModelMultiplexer } from '../sessions/model-multiplexer.js';
import type { Session } from '../sessions/session.js';
import type { JoinedRuns } from './joined-runs.js';

/** A shorter run says nothing about whether several threads would be worth it. */
const LEAST_RUN_MS = 1;
/** A handler may name any number of models. */
const MOST_LONG = 1_000;

export interface ModelRunsEnvironment {
  readonly counters: Pick<ReplicaCounters, 'ongoing' | 'othersAtWork'>;
  now(): number;
  /** A run took so long, during which the handler's request was the only one at work. @param key the session's. */
  ran(key: string, rows: number, runMs: number): void;
}

/**
 * Runs models for the requests of a handler. A request that is alone uses wide sessions, where they are loaded; what
 * several requests of the replica run at once is joined.
 */
export class ModelRuns {
  readonly #models: ModelMultiplexer;
  readonly #joined: JoinedRuns;
  readonly #environment: ModelRunsEnvironment;
  /** Keys of models whose last narrow run was long. */
  readonly #long = new Set<string>();

  constructor(models: ModelMultiplexer, joined: JoinedRuns, environment: ModelRunsEnvironment) {
    this.#models = models;
    this.#joined = joined;
    this.#environment = environment;
  }

  /**
   * Runs the model once, and loads it first if need be.
   *
   * @param held the model's session, if the caller holds it.
   */
  async run(
    { model, batching }: DefinedModel,
    feeds: ReadFeeds,
    outputs: readonly string[] | undefined,
    held?: Session,
  ): Promise<Outputs> {
    const { key, id } = model;
    const { now, ran } = this.#environment;
    const wasAlone = this.#isAlone;
    const wideKey = wideKeyOf(key);
    const wide = wasAlone ? this.#models.leaseLoaded(wideKey) : undefined;
    const narrow = async () => this.#models.leaseLoaded(key) ?? (await this.#models.lease(model));
    const lease = wide ?? (held === undefined ? await narrow() : undefined);
    try {
      const session = lease?.session ?? (held as Session);
      checkFeeds(id, feeds, session.metadata.inputs);
      checkOutputNames(id, outputs, session.metadata);
      if (wide === undefined && this.#isJoined(session, batching))
        return await this.#joined.run(model, session, batching, feeds, outputs);
      const startedAt = now();
      const answer = await session.run(feeds, outputs);
      const runMs = now() - startedAt;
      const isTold = wide !== undefined || this.#isLong(key, runMs);
      if (isTold && wasAlone && this.#isAlone)
        ran(wide === undefined ? key : wideKey, Math.max(1, commonRows(feeds)), runMs);
      return answer;
    } finally {
      lease?.giveBack();
    }
  }

  /** Whether the model's last two runs were long. One alone may have been held up by something else. */
  #isLong(key: string, runMs: number): boolean {
    if (runMs < LEAST_RUN_MS) {
      this.#long.delete(key);
      return false;
    }
    if (this.#long.has(key)) return true;
    if (this.#long.size >= MOST_LONG) this.#long.clear();
    this.#long.add(key);
    return false;
  }

  /** Whether other requests of the replica may run the model in this turn. */
  #isJoined(session: Session, batching: BatchingPolicy): boolean {
    return this.#environment.counters.ongoing > 1 && this.#joined.mayJoin(session, batching);
  }

  /** Whether no other request of the engine is with a replica. */
  get #isAlone(): boolean {
    const { ongoing, othersAtWork } = this.#environment.counters;
    return ongoing === 1 && othersAtWork === 0;
  }
}
