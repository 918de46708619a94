import type { Clock } from '../../common/clock.js';
import { messageOf } from '../../common/errors.js';
import { SerialQueue } from '../../common/serial-queue.js';
import type { LogFields } from '../../contracts/handler.js';
import { type ModelReference, type SessionWeights, wideKeyOf } from '../../contracts/model-reference.js';
import { mergeSettings, whyNotShared } from '../../contracts/session-settings.js';
import { HashMemory } from '../../protocol/hash-memory.js';
import type { WeightStoreSettings } from '../../protocol/messages.js';
import { definitionOf } from '../calls/model-definitions.js';
import type { ReplicaWeights } from '../calls/replica-weights.js';
import type { ReplicaState } from '../replica-state.js';
import { type Compilation, CompileProcess } from './compile-process.js';

/** A second session of a smaller model takes less than the process that would compile it. */
const LEAST_BYTES = 16 * 2 ** 20;
/** Sessions that are worth it: what they share is there once instead. */
const LEAST_SESSIONS = 2;
/** At the start everything loads at once, and a model that was just loaded may be on its way out. */
const SETTLE_MS = 2_000;
/** After this time a model whose compilation failed is tried again when it is loaded. */
const REST_MS = 600_000;
/** A replica changes over when it has nothing to do; one that is never idle does so after this time. */
const PATIENCE_MS = 10_000;
const LOOK_MS = 20;
/** Requests of handlers may hold a session whenever it is looked at. */
const PASSES = 3;

/** A replica, as the sharing of weights sees it. */
export interface SharingReplica {
  readonly id: string;
  readonly state: ReplicaState;
  readonly ongoing: number;
  readonly isLoading: boolean;
  readonly models: ReadonlyMap<string, unknown>;
  readonly weights: Pick<ReplicaWeights, 'settings' | 'of' | 'share'>;
}

export interface WeightSharingEnvironment {
  readonly clock: Clock;
  readonly weightStore: WeightStoreSettings;
  /** Memory of a {@link HashMemory}, which the replicas share. */
  readonly fileHashes: SharedArrayBuffer;
  /** All that run. */
  replicas(): readonly SharingReplica[];
  log(level: 'debug' | 'info' | 'warn', fields: LogFields, message: string): void;
  /** Default: {@link CompileProcess}. */
  compile?(model: ModelReference, session: Readonly<Record<string, unknown>>): Compilation;
}

/** The sessions of one model with the same settings: they can share weights. */
interface Group {
  readonly model: ModelReference;
  readonly session: Readonly<Record<string, unknown>>;
  readonly settings: string;
  /** Whether it is looked after now or soon. */
  isUnderWay: boolean;
  /** Whether its entry was in the store. */
  isPrepared: boolean;
  /** Clock time until which it is left alone. */
  restsUntil: number;
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
  readonly #groups = new Map<string, Group>();
  readonly #turns = new SerialQueue();
  #compilation: Compilation | undefined;
  #isAnnounced = false;
  /** Clock time until which the store is left alone, because it could not be used. */
  #storeRestsUntil = Number.NEGATIVE_INFINITY;
  #hasWarned = false;
  #isClosed = false;

  constructor(environment: WeightSharingEnvironment) {
    this.#environment = environment;
    this.#hashes = new HashMemory(environment.fileHashes);
  }

  /** Call it when a replica has loaded a session of the model, narrow or wide. */
  loaded({ weights: { settings } }: SharingReplica, model: ModelReference, weights: SessionWeights): void {
    if (weights === 'shared') {
      this.#announce();
      return;
    }
    if ((model.weights ?? settings.weights) !== 'auto' || model.bytes < LEAST_BYTES) return;
    const session = mergeSettings(settings.session, model.session ?? {});
    if (whyNotShared(model.format, session) !== undefined) return;
    this.#look(this.#groupOf(model, settings.session));
  }

  /** Call it when no request will name the model again. */
  forget(modelKey: string): void {
    for (const [name, { model }] of this.#groups) if (model.key === modelKey) this.#groups.delete(name);
  }

  /** Ends a compilation under way. Resolves when nothing is left of it. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#compilation?.close();
  }

  #groupOf(model: ModelReference, session: Group['session']): Group {
    const settings = JSON.stringify(session);
    const name = `${model.key} ${settings}`;
    const known = this.#groups.get(name);
    if (known !== undefined) return known;
    const group = { model, session, settings, isUnderWay: false, isPrepared: false, restsUntil: 0 };
    this.#groups.set(name, group);
    return group;
  }

  #look(group: Group): void {
    const now = this.#environment.clock.now();
    if (group.isUnderWay || now < Math.max(group.restsUntil, this.#storeRestsUntil)) return;
    group.isUnderWay = true;
    const lookAfter = () => {
      group.isUnderWay = false;
      return this.#lookAfter(group);
    };
    this.#environment.clock.schedule(() => void this.#turns.run(lookAfter), SETTLE_MS);
  }

  async #lookAfter(group: Group): Promise<void> {
    if (this.#sessionsOf(group).length < LEAST_SESSIONS) return;
    if (group.isPrepared) await this.#changeOver(group);
    if (!this.#isToChange(group) || !(await this.#prepare(group))) return;
    for (let pass = 0; pass < PASSES && this.#isToChange(group); pass += 1) await this.#changeOver(group);
    if (this.#isToChange(group)) group.restsUntil = this.#environment.clock.now() + REST_MS;
  }

  /** @returns whether the store has the model. */
  async #prepare(group: Group): Promise<boolean> {
    const { clock, log, weightStore } = this.#environment;
    const { model, session } = group;
    if (clock.now() < this.#storeRestsUntil) return false;
    this.#announce();
    const definition = definitionOf(model);
    this.#compilation =
      this.#environment.compile?.(definition, session) ??
      new CompileProcess(definition, { session, weightStore }, clock);
    const answer = await this.#compilation.answer;
    this.#compilation = undefined;
    if (this.#isClosed) return false;
    if (answer.kind === 'ready') {
      for (const [file, hash] of answer.hashes) this.#hashes.set(file, hash);
      group.isPrepared = true;
      log('info', { model: model.id, compileMs: answer.compileMs }, 'the weight store has the model');
      return true;
    }
    const fields = { model: model.id, reason: answer.reason };
    switch (answer.kind) {
      case 'declined':
        group.restsUntil = Number.POSITIVE_INFINITY;
        log('info', fields, 'the weights of the model are not shared');
        break;
      case 'died':
        group.restsUntil = clock.now() + REST_MS;
        log('warn', fields, 'the model could not be compiled to share its weights');
        break;
      case 'failed':
        this.#storeRestsUntil = clock.now() + REST_MS;
        log(this.#hasWarned ? 'debug' : 'warn', fields, 'weights are not shared: the weight store cannot be used');
        this.#hasWarned = true;
        break;
    }
    return false;
  }

  async #changeOver(group: Group): Promise<void> {
    for (const { replica, key } of this.#privateOf(group)) {
      await this.#untilIdle(replica);
      if (!this.#isToChange(group)) return;
      try {
        await replica.weights.share(key);
      } catch (cause) {
        // It serves as before.
        const fields = { replica: replica.id, model: group.model.id, reason: messageOf(cause) };
        this.#environment.log('debug', fields, 'the session keeps its own weights');
      }
    }
  }

  async #untilIdle(replica: SharingReplica): Promise<void> {
    const { clock } = this.#environment;
    const latest = clock.now() + PATIENCE_MS;
    const isBusy = () => replica.state === 'running' && (replica.ongoing > 0 || replica.isLoading);
    while (isBusy() && clock.now() < latest && !this.#isClosed) {
      await new Promise<void>((resolve) => void clock.schedule(resolve, LOOK_MS));
    }
  }

  #isToChange(group: Group): boolean {
    const isForgotten = ![...this.#groups.values()].includes(group);
    return !this.#isClosed && !isForgotten && this.#privateOf(group).length > 0;
  }

  #privateOf(group: Group): Place[] {
    return this.#sessionsOf(group).filter(({ replica, key }) => replica.weights.of(key) === 'private');
  }

  /** The model's sessions that have these settings, with those that are loading. */
  #sessionsOf({ model: { key }, settings }: Group): Place[] {
    return this.#environment
      .replicas()
      .filter(({ weights }) => JSON.stringify(weights.settings.session) === settings)
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
