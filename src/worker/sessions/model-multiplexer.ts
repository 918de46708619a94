import { checkModelId } from '../../common/model-id.js';
import type { Eviction, UnloadReason } from '../../contracts/eviction.js';
import type { ModelReference } from '../../contracts/model-reference.js';
import type { HeldLease, Lease } from './leases.js';
import {
  type ResidentBounds,
  type ResidentEvents,
  type ResidentSession,
  ResidentSessions,
} from './resident-sessions.js';
import type { SessionLoader } from './session.js';
import { type LoadEvents, SessionLoads } from './session-loads.js';
import { type RoomOptions, SessionUnloader, type UnloadEvents } from './session-unloader.js';

export interface MultiplexerEvents extends ResidentEvents, UnloadEvents, LoadEvents {
  /** The model's session gave way to another one, with shared weights. */
  changedOver(model: ModelReference, loadMs: number): void;
}

export interface MultiplexerOptions extends ResidentBounds {
  /** Milliseconds unused after which `expire` releases a session; -1 for never. */
  readonly idleTimeoutMs: number;
  /** Decides which session is evicted for a new one. */
  readonly eviction: Eviction;
}

/** A load that is under way or waits for its turn. */
interface Flight {
  readonly resident: Promise<ResidentSession>;
  /** Callers that share it. */
  waiters: number;
  /** Callers among them that may ask for another model before they give this one back. */
  holders: number;
}

/**
 * The session cache of one replica, bounded by count and bytes: it loads sessions and leases them.
 *
 * Every load and unload is a step of one chain, one step at a time. A load blocks the thread in any case; and so events
 * come in the order in which things happened, and the bounds hold at every moment, but for one: a model is loaded before
 * another has to leave for its place, so that a load that fails costs nobody a session.
 */
export class ModelMultiplexer {
  readonly #options: MultiplexerOptions;
  readonly #loader: SessionLoader;
  readonly #events: MultiplexerEvents;
  readonly #now: () => number;
  readonly #residents: ResidentSessions;
  readonly #unloader: SessionUnloader;
  readonly #loads: SessionLoads;
  readonly #flights = new Map<string, Flight>();
  #chain: Promise<unknown> = Promise.resolve();
  /** Steps of the chain that are not done. */
  #steps = 0;

  constructor(options: MultiplexerOptions, loader: SessionLoader, events: MultiplexerEvents, now: () => number) {
    this.#options = options;
    this.#loader = loader;
    this.#events = events;
    this.#now = now;
    this.#residents = new ResidentSessions(options, options.eviction, events);
    this.#unloader = new SessionUnloader(this.#residents, events, now);
    this.#loads = new SessionLoads(loader, this.#residents, this.#unloader, events, now);
  }

  /** Keys of the sessions in the cache, most recently used first. */
  keys(): string[] {
    return this.#residents.keys();
  }

  /** Resolves when the present steps are done, which need turns of the event loop; undefined when there are none. */
  unfinished(): Promise<void> | undefined {
    return this.#steps === 0 ? undefined : this.#chain.then(() => undefined);
  }

  /**
   * Leases the model's session, loaded if need be. Callers that come during a load share it.
   *
   * @param how.requests how many requests the lease is for.
   * @param how.spare keys of models to evict before others.
   * @throws InfermuxError `INVALID_ARGUMENT` for an invalid id, `MODEL_LOAD_FAILED` if the model cannot be loaded; the
   *   failure is remembered, and answers further calls at once, for a while that grows with every failure.
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

  /** Leases the model's session if it is loaded. There is no promise, because most requests take this way. */
  leaseLoaded(key: string, requests = 1): Lease | undefined {
    const resident = this.#residents.get(key);
    if (resident === undefined) return undefined;
    this.#options.eviction.requested(key, requests);
    resident.users += 1;
    return this.#leaseOf(resident, 0);
  }

  /**
   * Leases as {@link lease} does, for a caller that may ask for further models before it gives this one back. A step of
   * the chain that waited for such a caller would wait for ever, so there may be more sessions than the bounds allow as
   * long as all are held.
   */
  async hold(model: ModelReference): Promise<HeldLease> {
    checkModelId(model.id);
    this.#options.eviction.requested(model.key, 1);
    let resident = this.#residents.get(model.key);
    if (resident === undefined) [resident] = await this.#load(model, {}, true);
    else {
      resident.users += 1;
      resident.holders += 1;
    }
    const held = resident;
    const { session, giveBack } = this.#leaseOf(held, 0);
    return {
      session,
      giveBack: async () => {
        held.holders -= 1;
        giveBack();
        if (this.#unloader.hasExceeded) await this.#inTurn(() => this.#unloader.shrink());
      },
    };
  }

  /**
   * Loads the model if it is not loaded.
   *
   * @param how.pin never evict it.
   * @param how.spare keys of models to evict before others.
   * @param how.replaces key of a session that counts as unloaded, and whose place is free once it is released.
   * @throws InfermuxError as {@link lease}; `FAILED_PRECONDITION` when no place is left to pin it.
   */
  async load(model: ModelReference, { pin, spare, replaces }: RoomOptions & { readonly pin: boolean }): Promise<void> {
    // Earlier steps come first.
    await this.#chain;
    const wasPinned = this.#residents.isPinned(model.key);
    if (pin) this.#residents.pin(model, replaces);
    try {
      const lease = this.leaseLoaded(model.key, 0) ?? this.#leaseOf(...(await this.#load(model, { replaces, spare })));
      lease.giveBack();
    } catch (error) {
      if (!wasPinned) this.#residents.unpin(model.key);
      throw error;
    }
  }

  /**
   * Loads the model and unloads it again, if it is not loaded. Nothing is evicted for its place where that can be helped.
   *
   * @throws InfermuxError as {@link lease}.
   */
  tryOut(model: ModelReference): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#residents.peek(model.key) !== undefined) return;
      const resident = await this.#add(model, { isTrial: true });
      await this.#unloader.unload(resident, 'unloaded');
    });
  }

  /**
   * Lets the model's session give way to one with shared weights, if they were prepared since it was loaded and nobody
   * uses it.
   *
   * @throws InfermuxError as {@link lease}; the present session stays.
   */
  shareWeights(key: string): Promise<void> {
    return this.#inTurn(async () => {
      const resident = this.#residents.peek(key);
      if (resident === undefined || resident.users > 0 || resident.session.weights === 'shared') return;
      const { model } = resident;
      const startedAt = this.#now();
      const session = await this.#loader.loadShared(model);
      if (session === undefined) return;
      const { session: old } = resident;
      // A handler may have leased it during the load.
      const isInUse = resident.users > 0;
      if (!isInUse) {
        resident.session = session;
        this.#events.changedOver(model, this.#now() - startedAt);
      }
      await (isInUse ? session : old).release().catch((error) => this.#events.releaseFailed(key, error));
    });
  }

  /**
   * Releases the model's session after its last user, and forgets its failures and pin.
   *
   * @returns its bytes; 0 when there was none, or it could not be released.
   */
  async unload(key: string, reason: UnloadReason): Promise<number> {
    const { bytes, released } = await this.#inTurn(async () => {
      this.#residents.unpin(key);
      this.#loads.forget(key);
      const resident = this.#residents.peek(key);
      if (resident === undefined) return { bytes: 0, released: undefined };
      const { holders } = resident;
      const released = this.#unloader.unload(resident, reason);
      // The next steps do not wait for a holder, which may wait for one of them.
      if (holders === 0) await released;
      return { bytes: resident.bytes, released };
    });
    return (await released) === true ? bytes : 0;
  }

  /**
   * Releases sessions that have been unused for the idle time-out.
   *
   * @returns milliseconds until the next session may expire; undefined when there is none.
   */
  expire(): Promise<number | undefined> {
    return this.#inTurn(() => this.#unloader.expire(this.#options.idleTimeoutMs));
  }

  /** Releases all sessions, each after its last user. */
  releaseAll(): Promise<void> {
    return this.#inTurn(() => this.#unloader.unloadAll());
  }

  #leaseOf(resident: ResidentSession, loadMs: number): Lease {
    return {
      session: resident.session,
      loadMs,
      giveBack: () => {
        resident.users -= 1;
        resident.lastUsedAt = this.#now();
        if (resident.users === 0) resident.onIdle?.();
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

  /**
   * Loads the model, or waits for a load under way.
   *
   * @returns its session, which counts the caller as a user, and as a holder if `isHeld`; and the milliseconds waited.
   */
  async #load(model: ModelReference, room: RoomOptions, isHeld = false): Promise<[ResidentSession, number]> {
    const startedAt = this.#now();
    let flight = this.#flights.get(model.key);
    if (flight === undefined) {
      flight = { resident: this.#inTurn(() => this.#fly(model, room)), waiters: 0, holders: 0 };
      this.#flights.set(model.key, flight);
    }
    flight.waiters += 1;
    if (isHeld) flight.holders += 1;
    return [await flight.resident, this.#now() - startedAt];
  }

  async #fly(model: ModelReference, room: RoomOptions): Promise<ResidentSession> {
    try {
      return await this.#add(model, room, this.#flights.get(model.key));
    } finally {
      this.#flights.delete(model.key);
    }
  }

  /** @param flight those who wait for it, now and until it is loaded. */
  async #add(model: ModelReference, room: RoomOptions, flight?: Flight): Promise<ResidentSession> {
    const { key } = model;
    const { session, bytes, nextLoadMs: loadMs } = await this.#loads.load(model, room);
    // The waiters have their lease before anything else can happen to the session.
    const { waiters: users = 0, holders = 0 } = flight ?? {};
    const lastUsedAt = this.#now();
    const resident: ResidentSession = { key, model, session, bytes, loadMs, users, holders, lastUsedAt };
    this.#residents.add(resident);
    // Sessions that were held when room was needed may have been given back meanwhile.
    if (this.#unloader.hasExceeded) void this.#inTurn(() => this.#unloader.shrink());
    return resident;
  }
}
