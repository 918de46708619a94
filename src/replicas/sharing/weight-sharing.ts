import { type Clock, settlesWithin } from '../../common/clock.js';
import { messageOf } from '../../common/errors.js';
import { SerialQueue } from '../../common/tasks/serial-queue.js';
import { isSameData } from '../../common/values/realm.js';
import type { LogFields } from '../../contracts/handler.js';
import { type ModelReference, type SessionWeights, wideKeyOf } from '../../contracts/model-reference.js';
import { mergeSettings, whyNotShared } from '../../contracts/session-settings.js';
import { HashMemory } from '../../protocol/hash-memory.js';
import type { WeightStoreSettings } from '../../protocol/messages.js';
import { definitionOf } from '../calls/model-definitions.js';
import type { ReplicaWeights } from '../calls/replica-weights.js';
import type { ReplicaState } from '../replica-state.js';
import { type Compilation, type CompileAnswer, CompileProcess } from './compile-process.js';

/** A second session of a smaller model takes less than the process that would compile it. */
const LEAST_BYTES = 16 * 2 ** 20;
/** Sessions that are worth it: what they share is there once instead. */
const LEAST_SESSIONS = 2;
/** At the start everything loads at once, and a model that was just loaded may be on its way out. */
const SETTLE_MS = 2_000;
/** After this time what failed is tried again, and a model that left the store is compiled again. */
const REST_MS = 600_000;
/** As long as the store itself remembers that it had better not have the model. */
const DECLINED_MS = 86_400_000;
/** What follows from an answer that leaves the model private. Of a store that cannot be used there is one warning. */
const OUTCOMES = {
  declined: { restMs: DECLINED_MS, level: 'info', message: 'the weights of the model are not shared' },
  postponed: { restMs: REST_MS, level: 'info', message: 'the weights of the model are not shared yet' },
  died: { restMs: REST_MS, level: 'warn', message: 'the model could not be compiled to share its weights' },
  failed: { restMs: REST_MS, level: 'warn', message: 'weights are not shared: the weight store cannot be used' },
} as const satisfies Record<Exclude<CompileAnswer['kind'], 'ready'>, object>;
/** Memory that a compilation takes, for each byte of the model's files: four copies or so, some of them packed. */
const MEMORY_PER_BYTE = 4;
/** A replica changes over when it has nothing to do; one that is never idle does so after this time. */
const PATIENCE_MS = 10_000;
const LOOK_MS = 20;
/** Requests of handlers may hold a session whenever it is looked at. */
const PASSES = 3;
/**
 * A change over takes no longer than a load, whose warm-up runs it has, too. One that takes longer than this, and than so
 * many loads, never ends.
 */
const LONGEST_CHANGE_MS = 120_000;
const LONGEST_CHANGE_LOADS = 10;

/** A replica, as the sharing of weights sees it. */
export interface SharingReplica {
  readonly id: string;
  readonly state: ReplicaState;
  readonly ongoing: number;
  readonly isLoading: boolean;
  readonly models: ReadonlyMap<string, unknown>;
  readonly weights: Pick<ReplicaWeights, 'settings' | 'of' | 'share'>;
  /** Ends its thread. */
  abandon(cause: Error): void;
}

export interface WeightSharingEnvironment {
  readonly clock: Clock;
  readonly weightStore: WeightStoreSettings;
  /** Memory of a {@link HashMemory}, which the replicas share. */
  readonly fileHashes: SharedArrayBuffer;
  /** All that run. */
  replicas(): readonly SharingReplica[];
  log(level: 'debug' | 'info' | 'warn', fields: LogFields, message: string): void;
  /** Bytes of memory that this process may still use. */
  availableMemory(): number;
  /** Default: {@link CompileProcess}. */
  compile?(model: ModelReference, session: Readonly<Record<string, unknown>>): Compilation;
}

/** The sessions of one model with the same settings: they can share weights. */
interface Group {
  readonly model: ModelReference;
  readonly session: Readonly<Record<string, unknown>>;
  /** Whether it is to be looked after, now or later. */
  isPlanned: boolean;
  /** Whether its entry was in the store. */
  isPrepared: boolean;
  /** Clock time until which it is not compiled. */
  restsUntil: number;
  /** Whether a change over ended a replica. */
  isGivenUp: boolean;
  longestLoadMs: number;
}

/** A session as a replica has loaded it. */
interface LoadedSession {
  readonly weights: SessionWeights;
  readonly loadMs: number;
}

interface Place {
  readonly replica: SharingReplica;
  readonly key: string;
}

/**
 * Makes the sessions of a model share their weights where the model leaves that to the engine (`weights: 'auto'`). Each
 * loads with weights of its own, as fast as it can. When a large model has several sessions, it is compiled by a process
 * of the lowest priority, one model at a time; later loads map what that wrote, and the present sessions give way to
 * such ones, one after the other, each when its replica has nothing to do.
 */
export class WeightSharing {
  readonly #environment: WeightSharingEnvironment;
  readonly #hashes: HashMemory;
  readonly #groups = new Set<Group>();
  readonly #turns = new SerialQueue();
  #compilation: Compilation | undefined;
  #isAnnounced = false;
  /** Clock time until which the store is left alone, because it could not be used; undefined as long as it could. */
  #storeRestsUntil: number | undefined;
  #isClosed = false;

  constructor(environment: WeightSharingEnvironment) {
    this.#environment = environment;
    this.#hashes = new HashMemory(environment.fileHashes);
  }

  /** Call it when a replica has loaded a session of the model, narrow or wide. */
  loaded({ weights: { settings } }: SharingReplica, model: ModelReference, { weights, loadMs }: LoadedSession): void {
    if (weights === 'shared') {
      this.#announce();
      return;
    }
    if ((model.weights ?? settings.weights) !== 'auto' || model.bytes < LEAST_BYTES) return;
    if (whyNotShared(model.format, mergeSettings(settings.session, model.session ?? {})) !== undefined) return;
    const group = this.#groupOf(model, settings.session);
    group.longestLoadMs = Math.max(group.longestLoadMs, loadMs);
    this.#plan(group, SETTLE_MS);
  }

  /** Call it when no request will name the model again. */
  forget(modelKey: string): void {
    for (const group of this.#groups) if (group.model.key === modelKey) this.#groups.delete(group);
  }

  /** Ends a compilation under way. Resolves when nothing is left of it. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#compilation?.close();
  }

  #groupOf(model: ModelReference, session: Group['session']): Group {
    for (const group of this.#groups) {
      if (group.model.key === model.key && isSameData(group.session, session)) return group;
    }
    const group: Group = {
      ...{ model, session, isPlanned: false, isPrepared: false, isGivenUp: false },
      ...{ restsUntil: Number.NEGATIVE_INFINITY, longestLoadMs: 0 },
    };
    this.#groups.add(group);
    return group;
  }

  #plan(group: Group, inMs: number): void {
    if (group.isPlanned) return;
    group.isPlanned = true;
    const lookAfter = async () => {
      group.isPlanned = false;
      if (this.#isWorthIt(group)) await this.#lookAfter(group);
    };
    this.#environment.clock.schedule(() => void this.#turns.run(lookAfter), inMs);
  }

  /** Leaves the group alone for a time, and then looks whether there is still something to do. */
  #rest(group: Group, milliseconds: number): void {
    group.restsUntil = this.#environment.clock.now() + milliseconds;
    this.#plan(group, milliseconds);
  }

  async #lookAfter(group: Group): Promise<void> {
    if (group.isPrepared) await this.#changeOver(group);
    const now = this.#environment.clock.now();
    const waitMs = Math.max(group.restsUntil, this.#storeRestsUntil ?? now) - now;
    if (!this.#isWorthIt(group)) return;
    if (waitMs > 0) {
      this.#plan(group, waitMs);
      return;
    }
    if (!(await this.#prepare(group))) return;
    for (let pass = 0; pass < PASSES && this.#isWorthIt(group); pass += 1) await this.#changeOver(group);
    if (this.#isWorthIt(group)) this.#plan(group, REST_MS);
  }

  /** @returns whether the store has the model. */
  async #prepare(group: Group): Promise<boolean> {
    const { clock, log } = this.#environment;
    this.#announce();
    const answer = await this.#compile(group);
    if (this.#isClosed) return false;
    if (answer.kind === 'ready') {
      for (const [file, hash] of answer.hashes) this.#hashes.set(file, hash);
      group.isPrepared = true;
      // Should it leave the store again, for lack of room, it had better stay private than be compiled at each load.
      group.restsUntil = clock.now() + REST_MS;
      log('info', { model: group.model.id, compileMs: answer.compileMs }, 'the weight store has the model');
      return true;
    }
    const { restMs, level, message } = OUTCOMES[answer.kind];
    const isKnown = answer.kind === 'failed' && this.#storeRestsUntil !== undefined;
    if (answer.kind === 'failed') this.#storeRestsUntil = clock.now() + restMs;
    this.#rest(group, restMs);
    log(isKnown ? 'debug' : level, { model: group.model.id, reason: answer.reason }, message);
    return false;
  }

  async #compile({ model, session }: Group): Promise<CompileAnswer> {
    const { clock, weightStore, availableMemory, compile } = this.#environment;
    const neededBytes = MEMORY_PER_BYTE * model.bytes;
    if (availableMemory() < neededBytes) {
      return {
        kind: 'postponed',
        reason: `a compilation takes some ${neededBytes} bytes of memory, which are not left`,
      };
    }
    const definition = definitionOf(model);
    this.#compilation =
      compile?.(definition, session) ?? new CompileProcess(definition, { session, weightStore }, clock);
    try {
      return await this.#compilation.answer;
    } finally {
      this.#compilation = undefined;
    }
  }

  async #changeOver(group: Group): Promise<void> {
    const { log } = this.#environment;
    for (const place of this.#privateOf(group)) {
      await this.#untilIdle(place.replica);
      if (!this.#isWorthIt(group)) return;
      const fieldsOf = (cause: unknown) => {
        return { replica: place.replica.id, model: group.model.id, reason: messageOf(cause) };
      };
      try {
        await this.#share(place, Math.max(LONGEST_CHANGE_MS, LONGEST_CHANGE_LOADS * group.longestLoadMs));
      } catch (cause) {
        if (place.replica.state === 'failed') {
          // Another replica would fare no better.
          group.isGivenUp = true;
          log('warn', fieldsOf(cause), 'a replica failed when a session was to share its weights');
          return;
        }
        log('debug', fieldsOf(cause), 'the session keeps its own weights');
      }
    }
  }

  /** @throws InfermuxError the thread's error; `REPLICA_FAILED` when it gives no answer. */
  async #share({ replica, key }: Place, longestMs: number): Promise<void> {
    const shared = replica.weights.share(key);
    if (await settlesWithin(this.#environment.clock, shared, longestMs)) return;
    replica.abandon(new Error(`a session did not change over to shared weights within ${longestMs} ms`));
    await shared;
  }

  async #untilIdle(replica: SharingReplica): Promise<void> {
    const { clock } = this.#environment;
    const latest = clock.now() + PATIENCE_MS;
    const isBusy = () => replica.state === 'running' && (replica.ongoing > 0 || replica.isLoading);
    while (isBusy() && clock.now() < latest && !this.#isClosed) {
      await new Promise<void>((resolve) => void clock.schedule(resolve, LOOK_MS));
    }
  }

  /** Whether there are sessions that could share, and do not yet. */
  #isWorthIt(group: Group): boolean {
    if (this.#isClosed || group.isGivenUp || !this.#groups.has(group)) return false;
    return this.#sessionsOf(group).length >= LEAST_SESSIONS && this.#privateOf(group).length > 0;
  }

  #privateOf(group: Group): Place[] {
    return this.#sessionsOf(group).filter(({ replica, key }) => replica.weights.of(key) === 'private');
  }

  /** The model's sessions that have these settings, with those that are loading. */
  #sessionsOf({ model: { key, weights }, session }: Group): Place[] {
    return this.#environment
      .replicas()
      .filter(
        ({ weights: { settings } }) =>
          (weights ?? settings.weights) === 'auto' && isSameData(settings.session, session),
      )
      .flatMap((replica) => [key, wideKeyOf(key)].map((each) => ({ replica, key: each })))
      .filter(({ replica, key: each }) => replica.models.has(each));
  }

  #announce(): void {
    if (this.#isAnnounced) return;
    this.#isAnnounced = true;
    const { log, weightStore } = this.#environment;
    log('info', { ...weightStore }, 'sessions share weights through the weight store');
  }
}
