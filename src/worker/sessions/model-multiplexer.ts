import { LRUCache } from 'lru-cache';
import { InfermuxError, show, toInfermuxError } from '../../common/errors.js';
import { FailureMemory } from '../../common/failure-memory.js';
import { checkModelId } from '../../common/model-id.js';
import type { Eviction, UnloadReason } from '../../contracts/eviction.js';
import type { ModelReference } from '../../contracts/model-reference.js';
import type { ModelMetadata, Outputs, TensorFeeds } from '../../tensors/tensor.js';

/** A loaded model, as the multiplexer keeps it. */
export interface Session {
  readonly metadata: ModelMetadata;
  run(feeds: TensorFeeds, outputs: readonly string[] | undefined): Promise<Outputs>;
  release(): Promise<void>;
}

/** Loads sessions; the real one is `OnnxSession`. */
export interface SessionLoader {
  load(model: ModelReference): Promise<Session>;
}

export interface MultiplexerEvents {
  loading(key: string): void;
  loaded(model: ModelReference, session: Session, loadMs: number): void;
  /** @param nextTryInMs how long the failure is remembered. */
  loadFailed(key: string, error: InfermuxError, loadMs: number, nextTryInMs: number): void;
  /** @param idleMs how long nobody had used it. */
  unloaded(key: string, reason: UnloadReason, unloadMs: number, idleMs: number): void;
  /** A session that could not be released; its memory may stay. */
  releaseFailed(key: string, error: unknown): void;
  /** What is in memory changed: sessions and their bytes. */
  resident(models: number, bytes: number): void;
}

export interface MultiplexerOptions {
  /** Most sessions at a time; -1 for no limit. */
  readonly maxModels: number;
  /** Most bytes of sessions at a time; -1 for no limit. */
  readonly maxBytes: number;
  /** Milliseconds unused after which `expire` releases a session; -1 for never. */
  readonly idleTimeoutMs: number;
  /** Says which session leaves for a new one. */
  readonly eviction: Eviction;
}

/** A session in use; it is not released before the lease is given back. */
export interface Lease {
  readonly session: Session;
  /** Milliseconds that this caller waited for a load; 0 for a session that was there. */
  readonly loadMs: number;
  /** To be called once. */
  giveBack(): void;
}

/** A lease of one who may want further models before it gives it back. */
export interface HeldLease {
  readonly session: Session;
  /** To be called once. Resolves when there are no more sessions than the bounds allow, as far as others do not hold them. */
  giveBack(): Promise<void>;
}

interface Entry {
  readonly key: string;
  readonly session: Session;
  /** That it is counted with. */
  readonly bytes: number;
  /** Milliseconds that its load took. */
  readonly loadMs: number;
  users: number;
  /** Those of them who may want another model before they give it back. */
  holders: number;
  lastUsedAt: number;
  /** Set while somebody waits for `users` to become 0. */
  onIdle?: () => void;
}

interface LoadHow {
  readonly replaces?: string | undefined;
  readonly spare?: readonly string[] | undefined;
  readonly isHeld?: boolean;
}

interface Flight {
  readonly entry: Promise<Entry>;
  waiters: number;
  /** Those of them who may want another model before they give it back. */
  holders: number;
}

/**
 * The session cache of one replica, bounded by count and bytes.
 *
 * All that loads or releases goes through one chain, one step at a time: a load blocks the thread in any case, and so the
 * bounds hold at every moment and events come in the order in which things happened.
 */
export class ModelMultiplexer {
  readonly #options: MultiplexerOptions;
  readonly #loader: SessionLoader;
  readonly #events: MultiplexerEvents;
  readonly #now: () => number;
  readonly #cache: LRUCache<string, Entry>;
  readonly #failures: FailureMemory;
  readonly #flights = new Map<string, Flight>();
  /** Keys of models that are never evicted, whether they are there yet or not. */
  readonly #pinned = new Set<string>();
  /** Bytes in memory, those of sessions that wait for their last user included. */
  #residentBytes = 0;
  #residentModels = 0;
  #chain: Promise<unknown> = Promise.resolve();
  /** Whether there are more than the bounds allow, for the sake of those who hold some. */
  #hasExceeded = false;
  /** Sessions that are in the cache no more, and still held. */
  #heldOutside = 0;
  /** Steps of the chain that are not done. */
  #steps = 0;

  constructor(options: MultiplexerOptions, loader: SessionLoader, events: MultiplexerEvents, now: () => number) {
    this.#options = options;
    this.#loader = loader;
    this.#events = events;
    this.#now = now;
    this.#failures = new FailureMemory(now);
    // lru-cache wants a bound, and would evict without a release: it is #makeRoom that does.
    this.#cache = new LRUCache({ maxSize: Number.MAX_SAFE_INTEGER, sizeCalculation: () => 1 });
  }

  /**
   * As {@link lease}, for one who may want further models before it gives it back. To wait for it in the chain would be to wait
   * for ever, so there may be more sessions than the bounds allow as long as all are held.
   */
  async hold(model: ModelReference): Promise<HeldLease> {
    checkModelId(model.id);
    this.#options.eviction.requested(model.key, 1);
    let entry = this.#cache.get(model.key);
    if (entry === undefined) [entry] = await this.#load(model, { isHeld: true });
    else {
      entry.users += 1;
      entry.holders += 1;
    }
    const held = entry;
    const { session, giveBack } = this.#leaseOf(held, 0);
    return {
      session,
      giveBack: async () => {
        held.holders -= 1;
        giveBack();
        if (this.#hasExceeded) await this.#inTurn(() => this.#shrink());
      },
    };
  }

  /** What is not done yet, of what was asked for: its loads need turns of the event loop. */
  unfinished(): Promise<void> | undefined {
    return this.#steps === 0 ? undefined : this.#chain.then(() => undefined);
  }

  /** Keys of the sessions in the cache, most recently used first. */
  keys(): string[] {
    return [...this.#cache.keys()];
  }

  /**
   * The model's session, loaded if need be; callers that come during a load share it.
   *
   * @throws InfermuxError `INVALID_ARGUMENT` for an id that is no id, `MODEL_LOAD_FAILED` when it cannot be loaded; the
   *   failure is remembered and answered at once for a growing while.
   * @param how.requests that it is for.
   * @param how.spare keys of models that may leave before others.
   */
  async lease(
    model: ModelReference,
    { requests = 1, spare }: { requests?: number; spare?: readonly string[] | undefined } = {},
  ): Promise<Lease> {
    checkModelId(model.id);
    const lease = this.leaseLoaded(model.key, requests);
    if (lease !== undefined) return lease;
    this.#options.eviction.requested(model.key, requests);
    return this.#leaseOf(...(await this.#load(model, { spare })));
  }

  /** The model's session if it is there: without a promise, since that is how most requests find it. */
  leaseLoaded(key: string, requests = 1): Lease | undefined {
    const entry = this.#cache.get(key);
    if (entry === undefined) return undefined;
    this.#options.eviction.requested(key, requests);
    entry.users += 1;
    return this.#leaseOf(entry, 0);
  }

  /**
   * Loads the model if it is not there.
   *
   * @param how.pin never evict it.
   * @param how.spare as with {@link lease}.
   * @param how.replaces key of a session that counts as gone, and whose place is free once it is released.
   * @throws InfermuxError as {@link lease}; `FAILED_PRECONDITION` when there is no place to pin it.
   */
  async load(
    model: ModelReference,
    { pin, spare, replaces }: Pick<LoadHow, 'spare' | 'replaces'> & { readonly pin: boolean },
  ): Promise<void> {
    // What was asked for before this is done before it.
    await this.#chain;
    const wasPinned = this.#pinned.has(model.key);
    if (pin) this.#pin(model, replaces);
    try {
      const lease = this.leaseLoaded(model.key, 0) ?? this.#leaseOf(...(await this.#load(model, { replaces, spare })));
      lease.giveBack();
    } catch (error) {
      if (!wasPinned) this.#pinned.delete(model.key);
      throw error;
    }
  }

  /** Releases the model's session after its last user, and forgets what is known of the model. @returns its bytes; 0 when it is not there. */
  async unload(key: string, reason: UnloadReason): Promise<number> {
    const { bytes, released } = await this.#inTurn(async () => {
      this.#pinned.delete(key);
      this.#failures.forget(key);
      const entry = this.#cache.peek(key);
      if (entry === undefined) return { bytes: 0, released: undefined };
      const { holders } = entry;
      const released = this.#unload(entry, reason);
      if (holders === 0) await released;
      return { bytes: entry.bytes, released };
    });
    await released;
    return bytes;
  }

  /** One place is left for the models that are not pinned: they could never be loaded otherwise. */
  #pin({ id, key }: ModelReference, replaces: string | undefined): void {
    const { maxModels } = this.#options;
    const others = [...this.#pinned].filter((pinned) => pinned !== key && pinned !== replaces).length;
    if (maxModels !== -1 && others + 1 >= maxModels) {
      const message = `model ${show(id)} cannot be pinned: of the ${maxModels} sessions that a replica may have (maxModelsPerReplica) ${others} are pinned, and one is kept for the other models`;
      throw new InfermuxError('FAILED_PRECONDITION', message);
    }
    this.#pinned.add(key);
  }

  /**
   * Loads it, or waits for a load under way.
   *
   * @returns its entry, of which the caller is a user, and a holder if it said so; and how many milliseconds it waited.
   */
  async #load(model: ModelReference, { replaces, spare, isHeld = false }: LoadHow = {}): Promise<[Entry, number]> {
    const startedAt = this.#now();
    let flight = this.#flights.get(model.key);
    if (flight === undefined) {
      flight = { entry: this.#inTurn(() => this.#fly(model, replaces, spare)), waiters: 0, holders: 0 };
      this.#flights.set(model.key, flight);
    }
    flight.waiters += 1;
    if (isHeld) flight.holders += 1;
    return [await flight.entry, this.#now() - startedAt];
  }

  /**
   * Releases what has been unused for the idle time-out.
   *
   * @returns milliseconds until the next session may expire; undefined when there is none.
   */
  expire(): Promise<number | undefined> {
    return this.#inTurn(async () => {
      const { idleTimeoutMs } = this.#options;
      if (idleTimeoutMs === -1) return undefined;
      for (const key of [...this.#cache.rkeys()]) {
        const entry = this.#cache.peek(key);
        if (entry === undefined || entry.users > 0 || this.#pinned.has(key)) continue;
        const leftMs = entry.lastUsedAt + idleTimeoutMs - this.#now();
        if (leftMs > 0) return leftMs;
        await this.#unload(entry, 'expired');
      }
      return this.#cache.size > 0 ? idleTimeoutMs : undefined;
    });
  }

  /** Releases all sessions, each after its last user. */
  releaseAll(): Promise<void> {
    return this.#inTurn(async () => {
      for (const key of [...this.#cache.rkeys()]) {
        const entry = this.#cache.peek(key);
        if (entry !== undefined) await this.#unload(entry, 'shutdown');
      }
    });
  }

  #leaseOf(entry: Entry, loadMs: number): Lease {
    return {
      session: entry.session,
      loadMs,
      giveBack: () => {
        entry.users -= 1;
        entry.lastUsedAt = this.#now();
        if (entry.users === 0) entry.onIdle?.();
      },
    };
  }

  #inTurn<T>(step: () => Promise<T>): Promise<T> {
    this.#steps += 1;
    const result = this.#chain.then(step);
    const done = () => {
      this.#steps -= 1;
    };
    this.#chain = result.then(done, done);
    return result;
  }

  async #fly(
    model: ModelReference,
    replaces: string | undefined,
    spare: readonly string[] | undefined,
  ): Promise<Entry> {
    const { key, bytes } = model;
    try {
      const { session, loadMs } = await this.#loadSession(model, replaces, spare);
      // Those who waited hold their lease before anything else can happen to the session.
      const { waiters: users, holders } = this.#flights.get(key) ?? { waiters: 0, holders: 0 };
      const entry: Entry = { key, session, bytes, loadMs, users, holders, lastUsedAt: this.#now() };
      this.#cache.set(key, entry);
      // What was held when room was to be made may have been given back meanwhile.
      if (this.#hasExceeded) void this.#inTurn(() => this.#shrink());
      return entry;
    } finally {
      this.#flights.delete(key);
    }
  }

  async #loadSession(
    model: ModelReference,
    replaces: string | undefined,
    spare: readonly string[] | undefined,
  ): Promise<{ session: Session; loadMs: number }> {
    const remembered = this.#failures.recall(model.key);
    if (remembered !== undefined) throw remembered;
    const startedAt = this.#now();
    let loadStartedAt = startedAt;
    try {
      this.#checkFits(model);
      await this.#makeRoom(model, replaces, spare);
      this.#events.loading(model.key);
      loadStartedAt = this.#now();
      const session = await this.#loader.load(model);
      this.#failures.forget(model.key);
      this.#resident(1, model.bytes);
      const loadMs = this.#now() - loadStartedAt;
      this.#events.loaded(model, session, loadMs);
      return { session, loadMs };
    } catch (cause) {
      const error = toInfermuxError(cause);
      // A load refused because the thread stops says nothing about the model.
      const nextTryInMs = error.code === 'MODEL_LOAD_FAILED' ? this.#failures.record(model.key, error) : 0;
      this.#events.loadFailed(model.key, error, this.#now() - loadStartedAt, nextTryInMs);
      throw error;
    }
  }

  #checkFits({ id, bytes }: ModelReference): void {
    const { maxBytes } = this.#options;
    if (maxBytes !== -1 && bytes > maxBytes) {
      const message = `model ${show(id)} has ${bytes} bytes, maxModelBytesPerReplica is ${maxBytes}`;
      throw new InfermuxError('MODEL_LOAD_FAILED', message);
    }
  }

  async #makeRoom(
    { id, bytes }: ModelReference,
    replaces: string | undefined,
    spare: readonly string[] | undefined,
  ): Promise<void> {
    const leaving = replaces === undefined ? undefined : this.#cache.peek(replaces);
    const added = leaving === undefined ? { models: 1, bytes } : { models: 0, bytes: bytes - leaving.bytes };
    while (this.#isOverFull(added)) {
      const victim = this.#firstToLeave(leaving, spare);
      if (victim === undefined) {
        if (this.#isAnyHeld()) {
          this.#hasExceeded = true;
          return;
        }
        const message = `model ${show(id)} has ${bytes} bytes, and finds no room beside the pinned models: ${[...this.#pinned].map(show).join(', ')}`;
        throw new InfermuxError('FAILED_PRECONDITION', message);
      }
      await this.#unload(victim, 'evicted');
    }
  }

  #isAnyHeld(): boolean {
    return this.#heldOutside > 0 || [...this.#cache.rvalues()].some((entry) => (entry?.holders ?? 0) > 0);
  }

  #isOverFull(added = { models: 0, bytes: 0 }): boolean {
    const { maxModels, maxBytes } = this.#options;
    return (
      (maxModels !== -1 && this.#cache.size + added.models > maxModels) ||
      (maxBytes !== -1 && this.#residentBytes + added.bytes > maxBytes)
    );
  }

  /** There were more than the bounds allow, as long as somebody held them. */
  async #shrink(): Promise<void> {
    while (this.#isOverFull()) {
      const victim = this.#firstToLeave();
      if (victim === undefined || victim.users > 0) return;
      await this.#unload(victim, 'evicted');
    }
    this.#hasExceeded = false;
  }

  /** A session that nobody uses, if there is one; one that is spare before others. */
  #firstToLeave(leaving?: Entry, spare: readonly string[] = []): Entry | undefined {
    const [unused, used]: [Entry[], Entry[]] = [[], []];
    for (const entry of this.#cache.rvalues()) {
      if (entry === undefined || entry === leaving || entry.holders > 0 || this.#pinned.has(entry.key)) continue;
      (entry.users === 0 ? unused : used).push(entry);
    }
    const [first, ...others] = unused.length > 0 ? unused : used;
    if (first === undefined) return undefined;
    const sessions = [first, ...others] as const;
    return sessions.find(({ key }) => spare.includes(key)) ?? this.#options.eviction.first(sessions);
  }

  async #unload(entry: Entry, reason: UnloadReason): Promise<void> {
    const { key, holders } = entry;
    this.#cache.delete(key);
    // Whoever holds it is not waited for in the chain: it may be loaded anew before it is released.
    if (holders > 0) {
      this.#events.unloaded(key, reason, 0, 0);
      this.#heldOutside += 1;
    }
    if (entry.users > 0) {
      await new Promise<void>((resolve) => {
        entry.onIdle = resolve;
      });
    }
    const startedAt = this.#now();
    const idleMs = startedAt - entry.lastUsedAt;
    try {
      await entry.session.release();
    } catch (error) {
      this.#events.releaseFailed(key, error);
    }
    this.#resident(-1, -entry.bytes);
    if (holders === 0) this.#events.unloaded(key, reason, this.#now() - startedAt, idleMs);
    else this.#heldOutside -= 1;
  }

  #resident(models: number, bytes: number): void {
    this.#residentModels += models;
    this.#residentBytes += bytes;
    this.#events.resident(this.#residentModels, this.#residentBytes);
  }
}
