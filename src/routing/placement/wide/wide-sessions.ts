import type { Clock } from '../../../common/clock.js';
import { expectedMs } from '../../../common/estimates/latency-fit.js';
import { isSameData } from '../../../common/values/realm.js';
import { NO_MODEL } from '../../../contracts/handler.js';
import { wideModel } from '../../../contracts/model-reference.js';
import { mayBeWide, mergeSettings } from '../../../contracts/session-settings.js';
import type { PendingDispatch } from '../../batches/take-dispatch.js';
import { isHandled, type RoutedModel } from '../../pending-request.js';
import type { ModelQueue } from '../../queues/model-queue.js';
import type { LoadBackoff } from '../load-backoff.js';
import type { PlacementActions } from '../placement-rules.js';
import type { Candidate, RoutableReplica } from '../replicas/candidate.js';
import type { ReplicaIndex } from '../replicas/replica-index.js';
import { WideTurns } from './wide-turns.js';
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

type WideActions = Pick<PlacementActions<RoutableReplica>, 'accepted' | 'areAllOf' | 'loadWide'>;

/** A run that had the cores that it can use. */
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
 * runs wide if its model's wide session is loaded. Nothing waits for a load of that session: it is loaded in idle time,
 * and until then, and as soon as there is much to do, requests run narrow. A few of them take turns, see
 * {@link WideTurns}. So two wide runs never share the cores.
 */
export class WideSessions<R extends RoutableReplica> {
  readonly #replicas: ReplicaIndex<Candidate<R>>;
  readonly #clock: Clock;
  readonly #loadBackoff: LoadBackoff;
  readonly #actions: WideActions;
  readonly #takesTurns: () => boolean;
  readonly #turns: WideTurns<R>;
  #rules: WideRules;
  readonly #states = new Map<ModelQueue, WideState>();

  /** @param takesTurns whether it is left to the dispatcher which idle replica takes a lone request. */
  constructor(
    rules: WideRules,
    replicas: ReplicaIndex<Candidate<R>>,
    loadBackoff: LoadBackoff,
    clock: Clock,
    actions: WideActions,
    takesTurns: () => boolean,
  ) {
    this.#rules = rules;
    this.#replicas = replicas;
    this.#loadBackoff = loadBackoff;
    this.#clock = clock;
    this.#actions = actions;
    this.#takesTurns = takesTurns;
    this.#turns = new WideTurns(replicas, clock, actions, takesTurns);
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
    if (this.#states.size === 0) return undefined;
    if (queue.head !== undefined && isHandled(queue.head))
      return this.#turns.isAlone(queue) ? this.#candidateForHandler(queue.modelKey) : undefined;
    const state = this.#stateToRun(queue);
    return state && this.#replicas.warm(state.model.key).find((candidate) => this.#canRun(candidate, state));
  }

  /** The model to run on the candidate, if the queue's request is to run wide there. */
  modelFor(queue: ModelQueue, candidate: Candidate<R>): RoutedModel | undefined {
    const state = this.#stateToRun(queue);
    if (state === undefined) return undefined;
    return this.#canRun(candidate, state) || this.#canFollow(candidate, queue) ? state.model : undefined;
  }

  /** Clock time until which the queue's requests wait for their turn to run wide; undefined when they do not wait. */
  waitUntil(queue: ModelQueue): number | undefined {
    if (this.#states.size === 0) return undefined;
    const worth = this.#stateToRun(queue)?.worth;
    return worth && this.#turns.waitUntil(queue, worth);
  }

  /** The queue whose next request follows in the candidate, where one of it is running wide and ends soon. */
  following(candidate: Candidate<R>): ModelQueue | undefined {
    const queue = this.#turns.queueOf(candidate);
    if (queue === undefined || !this.#canFollow(candidate, queue)) return undefined;
    return this.#stateToRun(queue) && queue;
  }

  /** Call it before the dispatch is noted as given: a wide run takes another time than a narrow one. */
  given(candidate: Candidate<R>, queue: ModelQueue, dispatch: PendingDispatch): void {
    if (dispatch.wide === undefined) return;
    this.#turns.given(candidate, queue);
    const worth = this.#states.get(queue)?.worth;
    dispatch.expectedMs = worth?.expectedMs(rowsOf(dispatch));
    if (dispatch.accepted > 1) worth?.tookTurn();
  }

  /** The dispatch has its answer, or its replica died. */
  answered(candidate: Candidate<R>, { wide }: PendingDispatch): void {
    if (wide !== undefined) this.#turns.answered(candidate);
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

  /** The candidate takes no requests any more, and its sessions are gone. */
  replicaRemoved({ wideBytes }: Candidate<R>): void {
    if (wideBytes.size === 0) return;
    for (const { model, worth } of this.#states.values()) if (wideBytes.has(model.key)) worth.gone();
  }

  /** The candidate has answered a dispatch of the queue. Its run took `runMs`. */
  worked(candidate: Candidate<R>, queue: ModelQueue, dispatch: PendingDispatch, runMs: number): void {
    const { accepted, requests, wide, isHandled: isOfHandler } = dispatch;
    if (isOfHandler || (wide === undefined && (runMs < LEAST_RUN_MS || isUsuallyShort(queue, dispatch)))) return;
    // Others, also those that came during the run, may have held it up.
    const others = Math.max(accepted - 1, this.#actions.accepted());
    if (others >= this.#replicas.size && others > 0) return;
    if (others > 0 && (requests > 1 || !this.#actions.areAllOf(queue.modelKey))) return;
    const rows = rowsOf(dispatch);
    if (wide === undefined && others > 0) {
      if (this.#hasCores(candidate, others)) this.#states.get(queue)?.worth.ranBesideOthers(rows, runMs);
      // Beside few of its model it has a core of its own.
      if (others > this.#rules.cores / 2 - 1) return;
    }
    if (this.#hasCores(candidate, wide === undefined ? others : 0))
      this.ran(candidate.replica, queue, { key: (wide ?? queue.model).key, rows, runMs }, accepted);
  }

  /** The queue's model ran in the replica, and nothing held it up. @param requests that were there with its own. */
  ran(replica: R, queue: ModelQueue, { key, rows, runMs }: LoneRun, requests = 1): void {
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
    worth.ranNarrow(rows, runMs, now, requests);
    if (worth.isWorthLoading(queue.times.loadMs, now)) this.#load(queue, state);
  }

  /** The queue will not be used again, or begins anew. */
  forget(queue: ModelQueue): void {
    this.#states.get(queue)?.cancelTimer?.();
    this.#states.delete(queue);
  }

  /** The state of a model whose next request should run wide as soon as the wide session is free. */
  #stateToRun(queue: ModelQueue): WideState | undefined {
    // For most deployments the answer is here.
    if (this.#states.size === 0) return undefined;
    const state = this.#states.get(queue);
    if (state?.worth.mayRun !== true || queue.head === undefined || isHandled(queue.head)) return undefined;
    return this.#turns.isAlone(queue) || this.#turns.areFew(queue, state.worth) ? state : undefined;
  }

  #canFollow(candidate: Candidate<R>, queue: ModelQueue): boolean {
    return this.#turns.canFollow(candidate, queue) && this.#hasCores(candidate);
  }

  #canRun(candidate: Candidate<R>, { model: { key } }: WideState): boolean {
    return candidate.isIdle && candidate.models.get(key) === 'loaded' && this.#hasCores(candidate);
  }

  /** Whether the other replicas leave the cores to this one: at most so many have work, and none loads. */
  #hasCores(candidate: Candidate<R>, others = 0): boolean {
    if (candidate.replica.othersAtWork > others) return false;
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
    if (cores < 2 || !this.#takesTurns()) return undefined;
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
    if (this.#replicas.warm(key).length > 0 || !this.#loadBackoff.mayLoad(key)) return;
    const quietMs = Math.max(LEAST_QUIET_MS, queue.times.loadMs);
    const place = this.#placeFor(queue, quietMs);
    if (place !== undefined) {
      this.#order(place, queue, state);
      return;
    }
    const again = () => {
      state.cancelTimer = undefined;
      const isWorthIt = state.worth.isWorthLoading(queue.times.loadMs, this.#clock.now());
      if (isWorthIt && this.#replicas.size > 0 && this.#actions.accepted() === 0) this.#load(queue, state);
    };
    state.cancelTimer = this.#clock.schedule(again, quietMs);
  }

  /**
   * Returns a replica that was without work for so long, or any idle one where the others could do twice the work: a load
   * keeps it from its models, and nobody should wait for that.
   */
  #placeFor({ modelKey, model }: ModelQueue, quietMs: number): Candidate<R> | undefined {
    const before = this.#clock.now() - quietMs;
    const { idle } = this.#replicas;
    const canSpare = idle.length - 1 >= 2 * Math.max(1, this.#actions.accepted());
    const places = idle.filter(
      (candidate) => candidate.isIdle && candidate.hasFree(model.bytes) && (canSpare || candidate.begunAt <= before),
    );
    const warm = this.#replicas.warm(modelKey);
    const isOnly = (candidate: Candidate<R>) => warm.length === 1 && warm[0] === candidate;
    // One that serves the model, too, has nothing to load when more requests come.
    const isGood = (candidate: Candidate<R>) => candidate.models.has(modelKey) && !isOnly(candidate);
    return places.find(isGood) ?? places.find((candidate) => !isOnly(candidate)) ?? places[0];
  }

  #order({ replica }: Candidate<R>, { times }: ModelQueue, { model, worth }: WideState): void {
    this.#actions.loadWide(replica, model).then(undefined, () => worth.failed(times.loadMs, this.#clock.now()));
  }
}

/** Whether a run of a millisecond or more is one that something held up. */
function isUsuallyShort({ times }: ModelQueue, dispatch: PendingDispatch): boolean {
  const estimate = times.calls.estimate();
  return estimate !== undefined && expectedMs(estimate, rowsOf(dispatch)) < LEAST_RUN_MS;
}

/** A dispatch of one request has one group. */
function rowsOf({ groups }: PendingDispatch): number {
  return Math.max(1, groups[0]?.rows ?? 1);
}
