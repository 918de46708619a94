import { type InfermuxError, toInfermuxError } from '../../common/errors.js';
import { FailureMemory } from '../../common/failure-memory.js';
import type { ModelReference } from '../../contracts/model-reference.js';
import type { ResidentSessions } from './resident-sessions.js';
import type { Session, SessionLoader } from './session.js';
import type { RoomOptions, SessionUnloader, UnloadEvents } from './session-unloader.js';

export interface LoadedSession {
  readonly session: Session;
  /** Bytes that it counts for. */
  readonly bytes: number;
  /** Milliseconds that another load of the model is expected to take. */
  readonly nextLoadMs: number;
}

export interface LoadEvents {
  loading(model: ModelReference): void;
  loaded(model: ModelReference, session: Session, loadMs: number): void;
  /** @param nextTryInMs how long the failure is remembered. */
  loadFailed(key: string, error: InfermuxError, loadMs: number, nextTryInMs: number): void;
}

/**
 * Loads sessions so that a load that fails costs nobody else's session where that can be helped. Call {@link load} one at
 * a time, and not during a step of the unloader.
 */
export class SessionLoads {
  readonly #loader: SessionLoader;
  readonly #residents: ResidentSessions;
  readonly #unloader: SessionUnloader;
  readonly #events: LoadEvents & Pick<UnloadEvents, 'releaseFailed'>;
  readonly #now: () => number;
  readonly #failures: FailureMemory;
  /** Keys of models that were loaded here before. */
  readonly #loadable = new Set<string>();

  constructor(
    loader: SessionLoader,
    residents: ResidentSessions,
    unloader: SessionUnloader,
    events: LoadEvents & Pick<UnloadEvents, 'releaseFailed'>,
    now: () => number,
  ) {
    this.#loader = loader;
    this.#residents = residents;
    this.#unloader = unloader;
    this.#events = events;
    this.#now = now;
    this.#failures = new FailureMemory(now);
  }

  /** Forgets what is known of loads of the model. */
  forget(key: string): void {
    this.#failures.forget(key);
    this.#loadable.delete(key);
  }

  /**
   * Makes room, unless that can wait until the model is loaded. Where another model has to leave before, all is checked
   * that can be.
   *
   * @returns whether room is to be made when the model is loaded.
   */
  async #prepare(model: ModelReference, room: RoomOptions): Promise<boolean> {
    const lack = this.#unloader.lackOf(model, room);
    if (lack === 'nothing') return false;
    this.#unloader.checkRoom(model, room);
    if (lack === 'place' && this.#loader.mayLoadBeside(model)) return true;
    if (!this.#loadable.has(model.key)) await this.#loader.check(model);
    await this.#unloader.makeRoom(model, room);
    return false;
  }

  async #makeRoomFor(session: Session, model: ModelReference, room: RoomOptions): Promise<void> {
    try {
      this.#residents.checkFits(model);
      await this.#unloader.makeRoom(model, room);
    } catch (error) {
      await session.release().catch((cause) => this.#events.releaseFailed(model.key, cause));
      throw error;
    }
  }

  /**
   * Loads a session and makes room for it. It does not count as resident yet in the cache, but in the bounds.
   *
   * @throws InfermuxError as {@link SessionLoader.load}; the failure is remembered for a growing while.
   */
  async load(model: ModelReference, wanted: RoomOptions): Promise<LoadedSession> {
    const room = { ...wanted, isTrial: wanted.isTrial === true && this.#loader.mayLoadBeside(model) };
    const remembered = this.#failures.recall(model.key);
    if (remembered !== undefined) throw remembered;
    let loadStartedAt = this.#now();
    try {
      this.#residents.checkFits(model);
      const isBeside = await this.#prepare(model, room);
      this.#events.loading(model);
      loadStartedAt = this.#now();
      const session = await this.#loader.load(model);
      const loadMs = this.#now() - loadStartedAt;
      const { bytes = model.bytes, preparationMs = 0 } = session;
      if (isBeside || bytes > model.bytes) await this.#makeRoomFor(session, { ...model, bytes }, room);
      this.#failures.forget(model.key);
      this.#loadable.add(model.key);
      this.#residents.loaded(bytes);
      this.#events.loaded({ ...model, bytes }, session, loadMs);
      return { session, bytes, nextLoadMs: loadMs - preparationMs };
    } catch (cause) {
      const error = toInfermuxError(cause);
      // A load refused because the thread stops says nothing about the model.
      const nextTryInMs = error.code === 'MODEL_LOAD_FAILED' ? this.#failures.record(model.key, error) : 0;
      this.#events.loadFailed(model.key, error, this.#now() - loadStartedAt, nextTryInMs);
      throw error;
    }
  }
}
