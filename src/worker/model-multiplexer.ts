import { LRUCache } from 'lru-cache';
import { InfermuxError, show, toInfermuxError } from '../errors.js';
import { FailureMemory } from '../failure-memory.js';
import { checkModelId } from '../model-id.js';
import type { ModelReference, UnloadReason } from '../protocol/messages.js';
import type { ModelMetadata, Outputs, TensorFeeds } from '../tensor.js';

/** A loaded model, as the multiplexer keeps it. */
export interface Session {
  readonly metadata: ModelMetadata;
  readonly bytes: number;
  run(feeds: TensorFeeds, outputs: readonly string[] | undefined): Promise<Outputs>;
  release(): Promise<void>;
}

/** Loads sessions; the real one is `OnnxSession`. */
export interface SessionLoader {
  /** Bytes that a session of the model will be counted with. */
  sizeOf(model: ModelReference): Promise<number>;
  load(model: ModelReference, bytes: number): Promise<Session>;
}

export interface MultiplexerEvents {
  loading(key: string): void;
  loaded(key: string, session: Session, loadMs: number): void;
  loadFailed(key: string, error: InfermuxError, loadMs: number): void;
  unloaded(key: string, reason: UnloadReason, unloadMs: number): void;
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
}

/** A session in use; it is not released before the lease is given back. */
export interface Lease {
  readonly session: Session;
  /** Milliseconds that this caller waited for a load; 0 for a session that was there. */
  readonly loadMs: number;
  /** To be called once. */
  giveBack(): void;
}

interface Entry {
  readonly key: string;
  readonly session: Session;
  users: number;
  lastUsedAt: number;
  /** Set while somebody waits for `users` to become 0. */
  onIdle?: () => void;
}

interface Flight {
  readonly entry: Promise<Entry>;
  waiters: number;
}

/**
 * The session cache of one replica: least recently used first out, bounded by count and bytes.
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
  /** Bytes in memory, those of sessions that wait for their last user included. */
  #residentBytes = 0;
  #residentModels = 0;
  #chain: Promise<unknown> = Promise.resolve();

  constructor(options: MultiplexerOptions, loader: SessionLoader, events: MultiplexerEvents, now: () => number) {
    this.#options = options;
    this.#loader = loader;
    this.#events = events;
    this.#now = now;
    this.#failures = new FailureMemory(now);
    // lru-cache wants a bound, and takes memory ahead for `max`; #makeRoom keeps below it, so it never evicts by itself.
    const maxSize = options.maxModels === -1 ? Number.MAX_SAFE_INTEGER : options.maxModels;
    this.#cache = new LRUCache({ maxSize, sizeCalculation: () => 1 });
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
   */
  async lease(model: ModelReference): Promise<Lease> {
    checkModelId(model.id);
    return this.leaseLoaded(model.key) ?? this.#leaseAfterLoad(model);
  }

  /** The model's session if it is there: without a promise, since that is how most requests find it. */
  leaseLoaded(key: string): Lease | undefined {
    const entry = this.#cache.get(key);
    if (entry === undefined) return undefined;
    entry.users += 1;
    return this.#leaseOf(entry, 0);
  }

  async #leaseAfterLoad(model: ModelReference): Promise<Lease> {
    const startedAt = this.#now();
    let flight = this.#flights.get(model.key);
    if (flight === undefined) {
      flight = { entry: this.#inTurn(() => this.#load(model)), waiters: 0 };
      this.#flights.set(model.key, flight);
    }
    flight.waiters += 1;
    const entry = await flight.entry;
    return this.#leaseOf(entry, this.#now() - startedAt);
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
        if (entry === undefined || entry.users > 0) continue;
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
    const result = this.#chain.then(step);
    this.#chain = result.catch(() => undefined);
    return result;
  }

  async #load(model: ModelReference): Promise<Entry> {
    const { key } = model;
    try {
      const session = await this.#loadSession(model);
      // Those who waited hold their lease before anything else can happen to the session.
      const users = this.#flights.get(key)?.waiters ?? 0;
      const entry: Entry = { key, session, users, lastUsedAt: this.#now() };
      this.#cache.set(key, entry);
      return entry;
    } finally {
      this.#flights.delete(key);
    }
  }

  async #loadSession(model: ModelReference): Promise<Session> {
    const remembered = this.#failures.recall(model.key);
    if (remembered !== undefined) throw remembered;
    const startedAt = this.#now();
    let loadStartedAt = startedAt;
    try {
      const bytes = await this.#loader.sizeOf(model);
      this.#checkFits(model, bytes);
      await this.#makeRoom(bytes);
      this.#events.loading(model.key);
      loadStartedAt = this.#now();
      const session = await this.#loader.load(model, bytes);
      this.#failures.forget(model.key);
      this.#resident(1, session.bytes);
      this.#events.loaded(model.key, session, this.#now() - loadStartedAt);
      return session;
    } catch (cause) {
      const error = toInfermuxError(cause);
      // A load refused because the thread stops says nothing about the model.
      if (error.code === 'MODEL_LOAD_FAILED') this.#failures.record(model.key, error);
      this.#events.loadFailed(model.key, error, this.#now() - loadStartedAt);
      throw error;
    }
  }

  #checkFits(model: ModelReference, bytes: number): void {
    const { maxBytes } = this.#options;
    if (maxBytes !== -1 && bytes > maxBytes) {
      throw new InfermuxError(
        'MODEL_LOAD_FAILED',
        `model ${show(model.id)} has ${bytes} bytes, maxModelBytesPerReplica is ${maxBytes}`,
      );
    }
  }

  async #makeRoom(bytes: number): Promise<void> {
    const { maxModels, maxBytes } = this.#options;
    const overFull = () =>
      (maxModels !== -1 && this.#cache.size + 1 > maxModels) ||
      (maxBytes !== -1 && this.#residentBytes + bytes > maxBytes);
    while (overFull()) {
      const victim = this.#leastRecentlyUsed();
      if (victim === undefined) return;
      await this.#unload(victim, 'evicted');
    }
  }

  /** The least recently used session that nobody uses; if all are used, the least recently used of them. */
  #leastRecentlyUsed(): Entry | undefined {
    let first: Entry | undefined;
    for (const entry of this.#cache.rvalues()) {
      if (entry?.users === 0) return entry;
      first ??= entry;
    }
    return first;
  }

  async #unload(entry: Entry, reason: UnloadReason): Promise<void> {
    this.#cache.delete(entry.key);
    if (entry.users > 0) {
      await new Promise<void>((resolve) => {
        entry.onIdle = resolve;
      });
    }
    const startedAt = this.#now();
    try {
      await entry.session.release();
    } catch (error) {
      this.#events.releaseFailed(entry.key, error);
    }
    this.#resident(-1, -entry.session.bytes);
    this.#events.unloaded(entry.key, reason, this.#now() - startedAt);
  }

  #resident(models: number, bytes: number): void {
    this.#residentModels += models;
    this.#residentBytes += bytes;
    this.#events.resident(this.#residentModels, this.#residentBytes);
  }
}
