import { LRUCache } from 'lru-cache';
import { InfermuxError, show } from '../../common/errors.js';
import type { EvictableSession, Eviction } from '../../contracts/eviction.js';
import { isWideKey, type ModelReference } from '../../contracts/model-reference.js';
import type { Session } from './session.js';

/** A session in memory. The multiplexer counts its users here. */
export interface ResidentSession extends EvictableSession {
  readonly model: ModelReference;
  session: Session;
  /** Leases that are not given back. */
  users: number;
  /** Users that may ask for another model before they give their lease back. */
  holders: number;
  /** Milliseconds. */
  lastUsedAt: number;
  /** Set while an unload waits for `users` to become 0. */
  onIdle?: () => void;
}

export interface ResidentBounds {
  /** Most sessions at a time; -1 for no limit. */
  readonly maxModels: number;
  /** Most bytes of sessions at a time; -1 for no limit. */
  readonly maxBytes: number;
}

export interface ResidentEvents {
  /** The sessions in memory changed: their number and bytes. */
  resident(models: number, bytes: number): void;
}

/**
 * The sessions that a replica has in memory. It knows their number and bytes, which models are pinned, whether the
 * bounds are exceeded, and which session to evict next. It does not load or release a session itself: the caller tells
 * it.
 *
 * A removed session stays in memory, and counts there, until its last user is done and it is released.
 */
export class ResidentSessions {
  readonly #bounds: ResidentBounds;
  readonly #eviction: Eviction;
  readonly #events: ResidentEvents;
  readonly #cache: LRUCache<string, ResidentSession>;
  /** Keys of models that are never evicted, loaded or not. */
  readonly #pinned = new Set<string>();
  /** Sessions that were removed while they were held, and are not released yet. */
  readonly #heldOutside = new Set<ResidentSession>();
  #models = 0;
  #bytes = 0;

  constructor(bounds: ResidentBounds, eviction: Eviction, events: ResidentEvents) {
    this.#bounds = bounds;
    this.#eviction = eviction;
    this.#events = events;
    // lru-cache requires a bound, and would evict without a release: so the bound is never reached.
    this.#cache = new LRUCache({ maxSize: Number.MAX_SAFE_INTEGER, sizeCalculation: () => 1 });
  }

  /** The session of this key, which is now the most recently used one. */
  get(key: string): ResidentSession | undefined {
    return this.#cache.get(key);
  }

  /** The session of this key, which does not count as used. */
  peek(key: string): ResidentSession | undefined {
    return this.#cache.peek(key);
  }

  get isEmpty(): boolean {
    return this.#cache.size === 0;
  }

  /** Most recently used first. */
  keys(): string[] {
    return [...this.#cache.keys()];
  }

  /** Least recently used first. */
  keysByAge(): string[] {
    return [...this.#cache.rkeys()];
  }

  add(resident: ResidentSession): void {
    this.#cache.set(resident.key, resident);
  }

  /** Takes the session out of the cache: it gets no new users. */
  remove(resident: ResidentSession): void {
    this.#cache.delete(resident.key);
    if (resident.holders > 0) this.#heldOutside.add(resident);
  }

  /** Counts a session of so many bytes as loaded. */
  loaded(bytes: number): void {
    this.#count(1, bytes);
  }

  /** Counts a removed session as released. */
  released(resident: ResidentSession): void {
    this.#heldOutside.delete(resident);
    this.#count(-1, -resident.bytes);
  }

  #count(models: number, bytes: number): void {
    this.#models += models;
    this.#bytes += bytes;
    this.#events.resident(this.#models, this.#bytes);
  }

  /**
   * Keeps the model from eviction. One place is left for models that are not pinned: they could never be loaded
   * otherwise.
   *
   * @param replaces key of a pinned model whose place this one takes.
   * @throws InfermuxError `FAILED_PRECONDITION` when no place is left.
   */
  pin({ id, key }: ModelReference, replaces: string | undefined): void {
    const { maxModels } = this.#bounds;
    const others = [...this.#pinned].filter((pinned) => pinned !== key && pinned !== replaces).length;
    if (maxModels !== -1 && others + 1 >= maxModels) {
      const message = `model ${show(id)} cannot be pinned: of the ${maxModels} sessions that a replica may have (maxModelsPerReplica) ${others} are pinned, and one is kept for the other models`;
      throw new InfermuxError('FAILED_PRECONDITION', message);
    }
    this.#pinned.add(key);
  }

  unpin(key: string): void {
    this.#pinned.delete(key);
  }

  isPinned(key: string): boolean {
    return this.#pinned.has(key);
  }

  pinnedKeys(): string[] {
    return [...this.#pinned];
  }

  /** @throws InfermuxError `MODEL_LOAD_FAILED` when the model is larger than all the room there is. */
  checkFits({ id, bytes }: ModelReference): void {
    const { maxBytes } = this.#bounds;
    if (maxBytes !== -1 && bytes > maxBytes) {
      const message = `model ${show(id)} has ${bytes} bytes, maxModelBytesPerReplica is ${maxBytes}`;
      throw new InfermuxError('MODEL_LOAD_FAILED', message);
    }
  }

  /** @param added what is about to be loaded. */
  isOverFull(added = { models: 0, bytes: 0 }): boolean {
    const { maxModels, maxBytes } = this.#bounds;
    return (
      (maxModels !== -1 && this.#cache.size + added.models > maxModels) ||
      (maxBytes !== -1 && this.#bytes + added.bytes > maxBytes)
    );
  }

  isAnyHeld(): boolean {
    return this.#heldOutside.size > 0 || [...this.#cache.rvalues()].some((resident) => (resident?.holders ?? 0) > 0);
  }

  /**
   * Returns the session to evict next: an unused one if there is one, and among those a wide one first, then a spare
   * one. Undefined when every session is pinned, held or `replaced`.
   *
   * @param replaced the session whose place goes to the new model anyway.
   * @param spare keys of models to evict before others.
   */
  nextToEvict(replaced?: ResidentSession, spare: readonly string[] = []): ResidentSession | undefined {
    const [unused, used]: [ResidentSession[], ResidentSession[]] = [[], []];
    for (const resident of this.#cache.rvalues()) {
      if (resident === undefined || resident === replaced || resident.holders > 0 || this.isPinned(resident.key))
        continue;
      (resident.users === 0 ? unused : used).push(resident);
    }
    const [first, ...others] = unused.length > 0 ? unused : used;
    if (first === undefined) return undefined;
    const sessions = [first, ...others] as const;
    const isFirst = [({ key }: ResidentSession) => isWideKey(key), ({ key }: ResidentSession) => spare.includes(key)];
    return isFirst.flatMap((is) => sessions.find(is) ?? [])[0] ?? this.#eviction.first(sessions);
  }
}
