import { InfermuxError, show } from '../../common/errors.js';
import type { UnloadReason } from '../../contracts/eviction.js';
import type { ModelReference } from '../../contracts/model-reference.js';
import type { ResidentSession, ResidentSessions } from './resident-sessions.js';

export interface UnloadEvents {
  /** @param idleMs how long nobody had used it. */
  unloaded(key: string, reason: UnloadReason, unloadMs: number, idleMs: number): void;
  /** A session could not be released; its memory may stay. */
  releaseFailed(key: string, error: unknown): void;
}

/** How a model gets its place. */
export interface RoomOptions {
  /** Key of a session that counts as unloaded, and whose place is free once it is released. */
  readonly replaces?: string | undefined;
  /** Keys of models to evict before others. */
  readonly spare?: readonly string[] | undefined;
  /** Whether it is unloaded right after, and so needs no place of its own. */
  readonly isTrial?: boolean | undefined;
}

/**
 * Unloads sessions: to make room, after the idle time-out, or because it is told to. Each is released after its last
 * user.
 *
 * Call its methods one at a time, each after the one before has ended: the bounds hold because nothing else loads or
 * unloads meanwhile. {@link unload} alone need not be waited for.
 */
export class SessionUnloader {
  readonly #residents: ResidentSessions;
  readonly #events: UnloadEvents;
  readonly #now: () => number;
  #hasExceeded = false;

  constructor(residents: ResidentSessions, events: UnloadEvents, now: () => number) {
    this.#residents = residents;
    this.#events = events;
    this.#now = now;
  }

  /** Whether there may be more sessions than the bounds allow, because they were held when room was needed. */
  get hasExceeded(): boolean {
    return this.#hasExceeded;
  }

  /** What one more session of the model lacks. */
  lackOf({ bytes }: ModelReference, { replaces, isTrial }: RoomOptions): 'nothing' | 'place' | 'bytes' {
    const { models, bytes: more } = this.#added(bytes, this.#replaced(replaces), isTrial);
    if (this.#residents.isOverFull({ models: 0, bytes: more })) return 'bytes';
    return this.#residents.isOverFull({ models, bytes: 0 }) ? 'place' : 'nothing';
  }

  /** @throws InfermuxError `FAILED_PRECONDITION` when the pinned models leave no room. */
  checkRoom(model: ModelReference, { replaces }: RoomOptions): void {
    if (this.#residents.nextToEvict(this.#replaced(replaces)) === undefined && !this.#residents.isAnyHeld())
      throw this.#noRoom(model);
  }

  /**
   * Evicts sessions until the model fits the bounds. When every session left is pinned or held, and one is held, it
   * gives up: the bounds are exceeded until {@link shrink}.
   *
   * @throws InfermuxError `FAILED_PRECONDITION` when the pinned models leave no room.
   */
  async makeRoom(model: ModelReference, { replaces, spare, isTrial }: RoomOptions): Promise<void> {
    const replaced = this.#replaced(replaces);
    const added = this.#added(model.bytes, replaced, isTrial);
    while (this.#residents.isOverFull(added)) {
      const victim = this.#residents.nextToEvict(replaced, spare);
      if (victim === undefined) {
        if (this.#residents.isAnyHeld()) {
          this.#hasExceeded = true;
          return;
        }
        throw this.#noRoom(model);
      }
      await this.unload(victim, 'evicted');
    }
  }

  #replaced(replaces: string | undefined): ResidentSession | undefined {
    return replaces === undefined ? undefined : this.#residents.peek(replaces);
  }

  #added(bytes: number, replaced: ResidentSession | undefined, isTrial = false) {
    return { models: replaced !== undefined || isTrial ? 0 : 1, bytes: bytes - (replaced?.bytes ?? 0) };
  }

  #noRoom({ id, bytes }: ModelReference): InfermuxError {
    const pinned = this.#residents.pinnedKeys().map(show).join(', ');
    const message = `model ${show(id)} has ${bytes} bytes, and finds no room beside the pinned models: ${pinned}`;
    return new InfermuxError('FAILED_PRECONDITION', message);
  }

  /** Evicts unused sessions until the bounds hold again, or until the sessions left are in use. */
  async shrink(): Promise<void> {
    while (this.#residents.isOverFull()) {
      const victim = this.#residents.nextToEvict();
      if (victim === undefined || victim.users > 0) return;
      await this.unload(victim, 'evicted');
    }
    this.#hasExceeded = false;
  }

  /**
   * Unloads sessions that have been unused for the idle time-out.
   *
   * @param idleTimeoutMs -1 for never.
   * @returns milliseconds until the next session may expire; undefined when there is none.
   */
  async expire(idleTimeoutMs: number): Promise<number | undefined> {
    if (idleTimeoutMs === -1) return undefined;
    for (const key of this.#residents.keysByAge()) {
      const resident = this.#residents.peek(key);
      if (resident === undefined || resident.users > 0 || this.#residents.isPinned(key)) continue;
      const leftMs = resident.lastUsedAt + idleTimeoutMs - this.#now();
      if (leftMs > 0) return leftMs;
      await this.unload(resident, 'expired');
    }
    return this.#residents.isEmpty ? undefined : idleTimeoutMs;
  }

  async unloadAll(): Promise<void> {
    for (const key of this.#residents.keysByAge()) {
      const resident = this.#residents.peek(key);
      if (resident !== undefined) await this.unload(resident, 'shutdown');
    }
  }

  /**
   * Removes the session at once, and resolves when it is released, after its last user. Never rejects.
   *
   * @returns whether it was released.
   */
  async unload(resident: ResidentSession, reason: UnloadReason): Promise<boolean> {
    const { key, holders } = resident;
    this.#residents.remove(resident);
    // Only `unloadAll` waits for a holder, so the model may be loaded again before this session is released.
    if (holders > 0) this.#events.unloaded(key, reason, 0, 0);
    if (resident.users > 0) {
      await new Promise<void>((resolve) => {
        resident.onIdle = resolve;
      });
    }
    const startedAt = this.#now();
    const idleMs = startedAt - resident.lastUsedAt;
    let isReleased = true;
    try {
      await resident.session.release();
    } catch (error) {
      isReleased = false;
      this.#events.releaseFailed(key, error);
    }
    this.#residents.released(resident);
    if (holders === 0) this.#events.unloaded(key, reason, this.#now() - startedAt, idleMs);
    return isReleased;
  }
}
