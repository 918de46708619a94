import type { Clock } from '../../../common/clock.js';
import { isHandlerKey } from '../../../contracts/handler.js';
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
/** The only replica that serves the model loads a wide session after it had nothing to do for this long, or a load. */
const LEAST_IDLE_MS = 100;

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

/** A model that has had lone requests of some length. */
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
    this.#rules = rules;
    for (const queue of [...this.#states.keys()]) this.forget(queue);
  }

  /** The replica that should run the queue's request wide; undefined when the request is not alone, or has no other place. */
  candidateFor(queue: ModelQueue): Candidate<R> | undefined {
    if (this.#states.size === 0) return undefined;
    const state = this.#states.get(queue);
    if (state === undefined) return undefined;
    return this.#replicas.warm(state.model.key).find((candidate) => this.modelFor(queue, candidate) !== undefined);
  }

  /** The model to run on the candidate, if the queue's request is to run wide there. */
  modelFor(queue: ModelQueue, candidate: Candidate<R>): RoutedModel | undefined {
    if (this.#states.size === 0 || queue.size !== 1 || queue.isRetrying) return undefined;
    const state = this.#states.get(queue);
    if (state === undefined || !state.worth.mayRun || !this.#environment.isFree()) return undefined;
    const { replica, isIdle } = candidate;
    if (!isIdle || replica.models.get(state.model.key) !== 'loaded') return undefined;
    return this.#environment.accepted() === 1 && replica.othersAtWork === 0 ? state.model : undefined;
  }

  /** Milliseconds that the wide run of these rows is expected to take; undefined when that is unknown. */
  expectedMs(queue: ModelQueue, rows: number): number | undefined {
    return this.#states.get(queue)?.worth.expectedMs(rows);
  }

  /** The wide session of the queue's model appeared in the candidate, was loaded, or disappeared. */
  modelChanged({ replica, wideBytes }: Candidate<R>, key: string, queue: ModelQueue): void {
    const state = replica.models.get(key);
    if (state === undefined) wideBytes.delete(key);
    else wideBytes.set(key, queue.model.bytes);
    if (state === 'loaded') this.#states.get(queue)?.worth.loaded();
  }

  /** The candidate has answered a dispatch of the queue; its run took `runMs`. */
  worked(candidate: Candidate<R>, queue: ModelQueue, { groups, isAlone, wide }: PendingDispatch, runMs: number): void {
    if (!isAlone || (wide === undefined && runMs < LEAST_RUN_MS)) return;
    // Requests that came during the run may have held it up.
    if (this.#environment.accepted() > 0 || candidate.replica.othersAtWork > 0) return;
    const state = this.#stateOf(queue);
    if (state === undefined) return;
    const { worth, model } = state;
    const rows = Math.max(1, groups[0]?.rows ?? 1);
    const now = this.#clock.now();
    if (wide !== undefined) {
      if (!worth.ranWide(rows, runMs, now)) candidate.replica.unload(model.key, 'unloaded').then(undefined, () => 0);
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

  #stateOf(queue: ModelQueue): WideState | undefined {
    const known = this.#states.get(queue);
    if (known !== undefined) return known;
    const { session, cores } = this.#rules;
    const { model } = queue;
    if (cores < 2 || isHandlerKey(model.key) || !this.#environment.isFree()) return undefined;
    if (!mayBeWide(mergeSettings({ ...session }, model.session ?? {}))) return undefined;
    const state: WideState = { model: wideModel(model, cores), worth: new WideWorth(cores), cancelTimer: undefined };
    this.#states.set(queue, state);
    return state;
  }

  /** Loads the wide session in an idle replica that has room for it, if there is none yet. */
  #load(queue: ModelQueue, state: WideState): void {
    const { key, bytes } = state.model;
    if (this.#replicas.warm(key).length > 0 || !this.#environment.mayLoad(key)) return;
    const warm = this.#replicas.warm(queue.modelKey);
    const [only] = warm;
    const isOnly = (candidate: Candidate<R>) => warm.length === 1 && candidate === only;
    const places = this.#replicas.idle.filter((candidate) => candidate.isIdle && candidate.hasFree(bytes));
    const others = places.filter((candidate) => !isOnly(candidate));
    // One that also serves the model narrow has less to load when more requests come.
    const place = others.find(({ models }) => models.has(queue.modelKey)) ?? others[0];
    state.cancelTimer?.();
    state.cancelTimer = undefined;
    if (place !== undefined) this.#order(place, state);
    else if (only !== undefined) this.#loadWhenIdle(only, queue, state);
  }

  /** A load keeps the only replica of the model from serving it: it begins when no request has come for some time. */
  #loadWhenIdle(candidate: Candidate<R>, queue: ModelQueue, state: WideState): void {
    const since = queue.lastGivenAt;
    state.cancelTimer = this.#clock.schedule(
      () => {
        state.cancelTimer = undefined;
        const { key, bytes } = state.model;
        const isQuiet = queue.lastGivenAt === since && candidate.isIdle && this.#environment.accepted() === 0;
        if (!isQuiet || !this.#replicas.has(candidate) || !candidate.models.has(queue.modelKey)) return;
        if (candidate.hasFree(bytes) && this.#environment.mayLoad(key)) this.#order(candidate, state);
      },
      Math.max(LEAST_IDLE_MS, queue.times.loadMs),
    );
  }

  #order({ replica }: Candidate<R>, { model, worth }: WideState): void {
    this.#environment.load(replica, model).then(undefined, () => worth.failed(this.#clock.now()));
  }
}
