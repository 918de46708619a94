import type { Clock } from '../common/clock.js';
import { InfermuxError, toInfermuxError } from '../common/errors.js';
import { KeyedTasks } from '../common/tasks/keyed-tasks.js';
import { SerialQueue } from '../common/tasks/serial-queue.js';
import type { ModelReplica, ModelReplicas, ReplicaLoad } from './model-replicas.js';
import type { RegisteredModel } from './registered-model.js';

/** How a model is to be loaded. */
export interface LoadOrder {
  /** The deployment whose replicas load the model. */
  readonly deployment: string;
  readonly replicas: number | 'all';
  readonly pin: boolean;
  /** Further attempts after a failed one. */
  readonly retries: number;
}

/** How a model takes the place of another. */
export interface Replacement {
  /** Whether the old model is unloaded soon, so that its place counts as free. */
  readonly isLeaving: boolean;
  /** Whether the model stays loaded though no replica has the old one. */
  readonly isKept: boolean;
}

/** The pauses between attempts: equal to the time for which a replica remembers a failed load. */
const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 64_000;

/** Loads models on replicas, and unloads them. */
export class ModelLoader {
  readonly #replicas: ModelReplicas;
  readonly #clock: Clock;
  readonly #retries: number;
  /** Ongoing loads by model key; none rejects. */
  readonly #underWay = new Map<string, Set<Promise<void>>>();
  /** Ongoing unloads by model key. A load that is asked for during an unload begins after it. */
  readonly #unloading = new KeyedTasks();
  /** Keys of models that were loaded here, rather than by a request, and not unloaded since. */
  readonly #wanted = new Set<string>();
  /** Ids of the replicas that never evict the model, by model key. */
  readonly #pinnedOn = new Map<string, Set<string>>();
  /** The functions that cut each pause short, with the key of the model that waits in it. */
  readonly #pauses = new Map<() => void, string>();
  readonly #trials = new SerialQueue();
  #closed: InfermuxError | undefined;

  /** @param retries further attempts of loads that name none. */
  constructor(replicas: ModelReplicas, clock: Clock, retries = 0) {
    this.#retries = retries;
    this.#replicas = replicas;
    this.#clock = clock;
  }

  /**
   * Resolves when the ordered number of replicas have the model. Replicas that have it are chosen first, then replicas
   * with the fewest models. The first replica loads alone: the others would fail for the same reason, and they only map
   * what it compiles.
   *
   * @throws InfermuxError the last failure, when the retries are used up or no retry would help. Each pause is twice as
   *   long as the one before, unless the failure names its own.
   */
  load(model: RegisteredModel, order: LoadOrder): Promise<void> {
    return this.#track(model, () => this.#withRetries(model, order.retries, () => this.#loadOnce(model, order)));
  }

  /** {@link load} on one replica of the default deployment. */
  loadByDefault(model: RegisteredModel): Promise<void> {
    const deployment = this.#replicas.defaultDeployment();
    return this.load(model, { deployment, replicas: 1, pin: false, retries: this.#retries });
  }

  /**
   * Shows that the model loads: on every replica that has the old one, or else on one replica, which then unloads it
   * again. Replicas that have the old one take turns, so that the others go on serving. The old model stays loaded.
   *
   * @throws InfermuxError when the first replica cannot load it.
   */
  replace(old: RegisteredModel | undefined, model: RegisteredModel, how: Replacement): Promise<void> {
    return this.#track(model, async () => {
      const key = old?.key;
      const having = this.#replicas.running().filter(({ models }) => key !== undefined && models.has(key));
      if (having.length === 0) return this.#trials.run(() => this.#try(old, model, how));
      const [first, ...rest] = having;
      await this.#loadOn(first, model, this.#inPlaceOf(old, model, how, first));
      // The model is known to load. A replica that fails now loads it at its next request.
      for (const replica of rest) {
        await this.#loadOn(replica, model, this.#inPlaceOf(old, model, how, replica)).catch(() => undefined);
      }
    });
  }

  /** Loads the model on this replica, which never evicts it. */
  pinOn(replica: ModelReplica, model: RegisteredModel): Promise<void> {
    return this.#track(model, () =>
      this.#withRetries(model, this.#retries, () => this.#loadOn(replica, model, { pin: true })),
    );
  }

  /**
   * Unloads the model in all replicas, express replicas included, after its ongoing loads and its last use. A failed load is not tried again.
   *
   * @returns how many sessions were released.
   */
  unload(key: string, reason: 'unloaded' | 'replaced'): Promise<number> {
    return this.#unloading.add(key, this.#unload(key, reason));
  }

  async #unload(key: string, reason: 'unloaded' | 'replaced'): Promise<number> {
    for (const [giveUp, pausing] of this.#pauses) if (pausing === key) giveUp();
    const underWay = this.#underWay.get(key);
    if (underWay !== undefined) await Promise.all(underWay);
    this.#wanted.delete(key);
    this.#pinnedOn.delete(key);
    const freed = await Promise.all(
      this.#replicas.withSessions().map((replica) => replica.unload(key, reason).catch(() => 0)),
    );
    return freed.filter((bytes) => bytes > 0).length;
  }

  isPinnedOn(key: string, { id }: ModelReplica): boolean {
    return this.#pinnedOn.get(key)?.has(id) === true;
  }

  /** How many replicas never evict the model. */
  pins(key: string): number {
    return this.#pinnedOn.get(key)?.size ?? 0;
  }

  /** Forgets the pins of a replica that is gone with its sessions. */
  replicaLeft(replica: string): void {
    for (const replicas of this.#pinnedOn.values()) replicas.delete(replica);
  }

  /** Whether a load that was asked for here is under way. */
  isLoading(key: string): boolean {
    return this.#underWay.has(key);
  }

  /** Whether the model was loaded here, rather than by a request. */
  isWanted(key: string): boolean {
    return this.#wanted.has(key);
  }

  /** Ends all pauses. No further load begins. */
  close(error: InfermuxError): void {
    this.#closed ??= error;
    for (const giveUp of this.#pauses.keys()) giveUp();
  }

  async #track(model: RegisteredModel, work: () => Promise<void>): Promise<void> {
    const unloading = this.#unloading.get(model.key);
    const running = unloading === undefined ? work() : unloading.then(work);
    const settled = running.catch(() => undefined);
    const ofModel = this.#underWay.get(model.key) ?? new Set();
    this.#underWay.set(model.key, ofModel.add(settled));
    await settled;
    ofModel.delete(settled);
    if (ofModel.size === 0) this.#underWay.delete(model.key);
    return running;
  }

  /** Trials take turns, so that all of them together take the place of one session at most. */
  async #try(old: RegisteredModel | undefined, model: RegisteredModel, how: Replacement): Promise<void> {
    const [replica] = this.#choose(model.key, this.#replicas.running(), 1);
    const isTrial = !how.isKept && !model.isPinned;
    const wasWanted = old !== undefined && this.#wanted.has(old.key);
    await this.#loadOn(replica, model, isTrial ? { pin: false, isTrial } : this.#inPlaceOf(old, model, how, replica));
    if (!isTrial) return;
    if (!wasWanted) this.#wanted.delete(model.key);
    // It is unloaded, and forgotten here.
    await replica?.unload(model.key, 'unloaded').catch(() => 0);
  }

  #inPlaceOf(
    old: RegisteredModel | undefined,
    model: RegisteredModel,
    { isLeaving }: Replacement,
    replica: ModelReplica | undefined,
  ): ReplicaLoad {
    const isPinned = old !== undefined && replica !== undefined && this.isPinnedOn(old.key, replica);
    return { pin: model.isPinned || isPinned, replaces: isLeaving ? old?.key : undefined };
  }

  async #withRetries(model: RegisteredModel, retries: number, work: () => Promise<void>): Promise<void> {
    for (let attempt = 0; ; attempt += 1) {
      try {
        return await work();
      } catch (cause) {
        const error = toInfermuxError(cause);
        if (attempt >= retries || !isWorthAnother(error) || this.#unloading.has(model.key)) throw error;
        const pauseMs = error.retryAfterMs ?? Math.min(FIRST_PAUSE_MS * 2 ** attempt, LONGEST_PAUSE_MS);
        if (!(await this.#pause(model.key, pauseMs))) throw this.#closed ?? error;
      }
    }
  }

  async #loadOnce(model: RegisteredModel, { deployment, replicas, pin }: LoadOrder): Promise<void> {
    const most = replicas === 'all' ? Number.POSITIVE_INFINITY : replicas;
    const running = () => this.#replicas.running().filter((replica) => replica.deployment === deployment);
    const [first] = this.#choose(model.key, running(), 1);
    await this.#loadOn(first, model, { pin });
    // More replicas may be running by now.
    const others = running().filter((replica) => replica !== first);
    const rest = this.#choose(model.key, others, most - 1);
    await Promise.all(rest.map((replica) => this.#loadOn(replica, model, { pin })));
  }

  async #loadOn(replica: ModelReplica | undefined, model: RegisteredModel, how: ReplicaLoad): Promise<void> {
    if (this.#closed !== undefined) throw this.#closed;
    if (replica === undefined) throw new InfermuxError('REPLICA_FAILED', 'no replica runs at present');
    const { key } = model;
    // Before the load, so that a count of pins during the load includes this one.
    const wasPinned = this.isPinnedOn(key, replica);
    if (how.pin) this.#pinnedOn.set(key, (this.#pinnedOn.get(key) ?? new Set()).add(replica.id));
    try {
      await this.#replicas.loadInTurn(model, replica, () => {
        // It may have waited for its turn.
        if (this.#closed !== undefined) throw this.#closed;
        return replica.load(model, how);
      });
      this.#wanted.add(key);
    } catch (error) {
      if (!wasPinned) this.#pinnedOn.get(key)?.delete(replica.id);
      throw error;
    }
  }

  #choose(key: string, replicas: readonly ModelReplica[], count: number): ModelReplica[] {
    const places = replicas.map((replica, index) => ({ replica, index, has: replica.models.has(key) }));
    places.sort(
      (left, right) =>
        Number(right.has) - Number(left.has) ||
        left.replica.models.size - right.replica.models.size ||
        left.replica.ongoing - right.replica.ongoing ||
        left.index - right.index,
    );
    return places.slice(0, count).map(({ replica }) => replica);
  }

  /** @returns false when the pause was cut short. */
  #pause(key: string, milliseconds: number): Promise<boolean> {
    return new Promise((resolve) => {
      const end = (isOver: boolean) => {
        cancel();
        this.#pauses.delete(giveUp);
        resolve(isOver);
      };
      const giveUp = () => end(false);
      const cancel = this.#clock.schedule(() => end(true), milliseconds);
      this.#pauses.set(giveUp, key);
    });
  }
}

/** Whether a further attempt may succeed. A replica may have died for another reason than this model. */
function isWorthAnother({ code }: InfermuxError): boolean {
  return code === 'MODEL_LOAD_FAILED' || code === 'REPLICA_FAILED';
}
