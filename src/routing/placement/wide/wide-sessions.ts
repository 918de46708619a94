import type { Clock } from '../../../common/clock.js';
import { isSameData } from '../../../common/values/realm.js';
import { isHandlerKey, NO_MODEL } from '../../../contracts/handler.js';
import { wideModel } from '../../../contracts/model-reference.js';
import { mayBeWide, mergeSettings } from '../../../contracts/session-settings.js';
import type { PendingDispatch } from '../../batches/take-dispatch.js';
import type { RoutedModel } from '../../pending-request.js';
import type { ModelQueue } from '../../queues/model-queue.js';
import type { Candidate, RoutableReplica } from '../replicas/candidate.js';
import type { ReplicaIndex } from '../replicas/replica-index.js';
import { WideWorth } from './wide-worth.js';

/** Shorter runs gain nothing: to wake the other threads takes a good part of the time. */
const LEAST_RUN_MS = 1;
/** A replica that had nothing to do for this long, and for the time of the load, loads a wide session. */
const LEAST_QUIET_MS = 100;

/** What decides whether there are wide sessions. */
export interface WideRules {
  /** Options of the deployment's sessions. */
  readonly session: object;
  /** Cores that a wide run can use. With one there are no wide sessions. */
  readonly cores: number;
}

export interface WideEnvironment {
  /** Accepted requests of the dispatcher without an answer. */
  accepted(): number;
  /** Whether the router leaves it to the dispatcher which idle replica takes a lone request. */
  isFree(): boolean;
  /** Whether the wide session may be loaded at present. */
  mayLoad(key: string): boolean;
  /** Loads the wide session. Rejects when it cannot be loaded. */
  load(candidate: RoutableReplica, model: RoutedModel): PromiseLike<void>;
}

/** A run beside which nothing else was at work. */
export interface LoneRun {
  /** Key of the session. */
  readonly key: string;
  readonly rows: number;
  readonly runMs: number;
}

/** A model that has had lone runs of some length. */
interface WideState {
  /** The model as its wide session loads it. */
  readonly model: RoutedModel;
  readonly worth: WideWorth;
  cancelTimer: (() => void) | undefined;
}

/**
 * The wide sessions of a deployment's models: one for a model at most, in an idle replica with room for it.
 *
 * A request is alone when no other of the deployment is accepted and no other replica of the engine has work. It then
 * runs wide if its model's wide session is loaded. Nothing waits for that session: it is loaded in idle time, and until
 * then, and as soon as there is more to do, requests run narrow. So two wide runs never share the cores.
 */
export class WideSessions<R extends RoutableReplica> {
  readonly #replicas: ReplicaIndex<Candidate<R>>;
  readonly #clock: Clock;
  readonly #environment: WideEnvironment;
  #rules: WideRules;
  readonly #states = new Map<ModelQueue, WideState>();

  constructor(rules: WideRules, replicas: ReplicaIndex<Candidate<R>>, clock: Clock, environment: WideEnvironment) {
    this.#rules = rules;
    this.#replicas = replicas;
    this.#clock = clock;
    this.#environment = environment;
  }

  configure(rules: WideRules): void {
    const isSame = rules.cores === this.#rules.cores && isSameData(rules.session, this.#rules.session);
    this.#rules = rules;
    if (isSame) return;
    for (const queue of [...this.#states.keys()]) this.forget(queue);
  }

  /** The replica that should take the queue's request for a wide run; undefined when another choice is as good. */
  candidateFor(queue: ModelQueue): Candidate<R> | undefined {
    // For most deployments the answer is here.
    if (this.#states.size === 0 || !this.#isAlone(queue)) return undefined;
    if (isHandlerKey(queue.modelKey)) return this.#candidateForHandler(queue.modelKey);
    const state = this.#states.get(queue);
    if (state?.worth.mayRun !== true) return undefined;
    return this.#replicas.warm(state.model.key).find((candidate) => this.#canRun(candidate, state));
  }

  /** The model to run on the candidate, if the queue's request is to run wide there. */
  modelFor(queue: ModelQueue, candidate: Candidate<R>): RoutedModel | undefined {
    if (this.#states.size === 0 || !this.#isAlone(queue)) return undefined;
    const state = this.#states.get(queue);
    return state?.worth.mayRun === true && this.#canRun(candidate, state) ? state.model : undefined;
  }

  /** Milliseconds that the wide run of these rows is expected to take; undefined when that is unknown. */
  expectedMs(queue: ModelQueue, rows: number): number | undefined {
    return this.#states.get(queue)?.worth.expectedMs(rows);
  }

  /** The wide session of the queue's model appeared in the candidate, was loaded, or disappeared. */
  modelChanged({ replica, wideBytes }: Candidate<R>, key: string, queue: ModelQueue): void {
    const session = replica.models.get(key);
    if (session === undefined) wideBytes.delete(key);
    else wideBytes.set(key, queue.model.bytes);
    const worth = this.#states.get(queue)?.worth;
    if (session === 'loaded') worth?.loaded(this.#clock.now());
    else worth?.gone();
  }

  /** The candidate has answered a dispatch of the queue. Its run took `runMs`. */
  worked(candidate: Candidate<R>, queue: ModelQueue, { groups, isAlone, wide }: PendingDispatch, runMs: number): void {
    if (!isAlone || (wide === undefined && runMs < LEAST_RUN_MS) || isHandlerKey(queue.modelKey)) return;
    // A request that came during the run may have held it up.
    if (this.#environment.accepted() > 0 || !this.#hasCores(candidate)) return;
    this.ran(candidate, queue, { key: (wide ?? queue.model).key, rows: Math.max(1, groups[0]?.rows ?? 1), runMs });
  }

  /** The queue's model ran in the candidate, and nothing else was at work. */
  ran({ replica }: Candidate<R>, queue: ModelQueue, { key, rows, runMs }: LoneRun): void {
    const state = this.#stateOf(queue);
    if (state === undefined) return;
    const { worth, model } = state;
    const now = this.#clock.now();
    if (key === model.key) {
      if (worth.ranWide(rows, runMs)) return;
      worth.failed(queue.times.loadMs, now);
      replica.unload(key, 'unloaded').then(undefined, () => undefined);
      return;
    }
    worth.ranNarrow(rows, runMs, now);
    if (worth.isWorthLoading(queue.times.loadMs, now)) this.#load(queue, state);
  }

  /** The queue will not be used again, or begins anew. */
  forget(queue: ModelQueue): void {
    this.#states.get(queue)?.cancelTimer?.();
    this.#states.delete(queue);
  }

  /** Whether the queue's request is the only one of the deployment. One that lost a replica runs as it did before. */
  #isAlone(queue: ModelQueue): boolean {
    const { accepted, isFree } = this.#environment;
    return queue.size === 1 && accepted() === 1 && !queue.isRetrying && isFree();
  }

  #canRun(candidate: Candidate<R>, { model: { key } }: WideState): boolean {
    return candidate.isIdle && candidate.models.get(key) === 'loaded' && this.#hasCores(candidate);
  }

  /** Whether the other replicas leave the cores to this one. */
  #hasCores(candidate: Candidate<R>): boolean {
    if (candidate.replica.othersAtWork > 0) return false;
    for (const { replica } of this.#replicas.all())
      if (replica !== candidate.replica && replica.isLoading) return false;
    return true;
  }

  /** The models that a handler runs are not known before. But it will run those that it ran before. */
  #candidateForHandler(key: string): Candidate<R> | undefined {
    for (const candidate of this.#replicas.idle) {
      const { isIdle, wideBytes, models } = candidate;
      const isReady = isIdle && wideBytes.size > 0 && (key === NO_MODEL || models.has(key));
      if (isReady && this.#hasCores(candidate)) return candidate;
    }
    return undefined;
  }

  #stateOf(queue: ModelQueue): WideState | undefined {
    const known = this.#states.get(queue);
    if (known !== undefined) return known;
    const { session, cores } = this.#rules;
    const { model } = queue;
    if (cores < 2 || !this.#environment.isFree()) return undefined;
    if (!mayBeWide(mergeSettings({ ...session }, model.session ?? {}))) return undefined;
    const state: WideState = { model: wideModel(model, cores), worth: new WideWorth(cores), cancelTimer: undefined };
    this.#states.set(queue, state);
    const isLoaded = ({ models }: Candidate<R>) => models.get(state.model.key) === 'loaded';
    if (this.#replicas.warm(state.model.key).some(isLoaded)) state.worth.loaded(this.#clock.now());
    return state;
  }

  /** Loads the wide session in a quiet replica that has room for it, now or after a pause, if there is none yet. */
  #load(queue: ModelQueue, state: WideState): void {
    const { key } = state.model;
    state.cancelTimer?.();
    state.cancelTimer = undefined;
    if (this.#replicas.warm(key).length > 0 || !this.#environment.mayLoad(key)) return;
    const quietMs = Math.max(LEAST_QUIET_MS, queue.times.loadMs);
    const place = this.#placeFor(queue, quietMs);
    if (place !== undefined) {
      this.#order(place, queue, state);
      return;
    }
    const again = () => {
      state.cancelTimer = undefined;
      if (this.#environment.accepted() === 0) this.#load(queue, state);
    };
    state.cancelTimer = this.#clock.schedule(again, quietMs);
  }

  /** Returns a replica without work for so long: a load keeps it from its models, and nobody should wait for that. */
  #placeFor({ modelKey, model }: ModelQueue, quietMs: number): Candidate<R> | undefined {
    const before = this.#clock.now() - quietMs;
    const places = this.#replicas.idle.filter(
      (candidate) => candidate.isIdle && candidate.hasFree(model.bytes) && candidate.begunAt <= before,
    );
    const warm = this.#replicas.warm(modelKey);
    const isOnly = (candidate: Candidate<R>) => warm.length === 1 && warm[0] === candidate;
    // One that serves the model, too, has nothing to load when more requests come.
    const isGood = (candidate: Candidate<R>) => candidate.models.has(modelKey) && !isOnly(candidate);
    return places.find(isGood) ?? places.find((candidate) => !isOnly(candidate)) ?? places[0];
  }

  #order({ replica }: Candidate<R>, { times }: ModelQueue, { model, worth }: WideState): void {
    this.#environment.load(replica, model).then(undefined, () => worth.failed(times.loadMs, this.#clock.now()));
  }
}
