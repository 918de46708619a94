import type { Clock } from '../common/clock.js';
import { InfermuxError } from '../common/errors.js';
import { NO_MODEL } from '../contracts/handler.js';
import { type ModelName, type ModelReference, wideKeyOf } from '../contracts/model-reference.js';
import type { ReplicaEvent } from '../protocol/events.js';
import type { DefinedModel, ExpireAnswer, HelloAnswer, UnloadMessage } from '../protocol/messages.js';
import type { ReplicaCounters } from '../protocol/queue-counters.js';
import { HandlerCalls } from './calls/handler-calls.js';
import { ModelDefinitions } from './calls/model-definitions.js';
import type { ReplicaAnswer } from './calls/replica-answer.js';
import { type LoadSettings, ReplicaCalls } from './calls/replica-calls.js';
import type { ReplicaDispatch } from './calls/replica-dispatch.js';
import { ReplicaWeights } from './calls/replica-weights.js';
import type { ReplicaHost } from './hosts/replica-host.js';
import { ReplicaLifecycle } from './replica-lifecycle.js';
import { type ModelState, ReplicaModels } from './replica-models.js';
import type { ReplicaObserver, ReplicaOptions } from './replica-options.js';
import { isFinal, type ReplicaState } from './replica-state.js';
import { SessionExpiry } from './session-expiry.js';

/**
 * The calling thread's handle of one replica, from the start of its thread to its end. After the replica failed or
 * stopped, a new one takes its place.
 */
export class Replica {
  readonly id: string;
  readonly deployment: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly isExpress: boolean;
  readonly killsCancelled: boolean;
  readonly counters: ReplicaCounters;
  /** Where its sessions have their weights. */
  readonly weights: ReplicaWeights;
  /** Its calls to the handler, if there is one. */
  readonly handler: HandlerCalls;
  readonly #options: ReplicaOptions;
  readonly #observer: ReplicaObserver;
  readonly #host: ReplicaHost;
  readonly #lifecycle: ReplicaLifecycle;
  readonly #models: ReplicaModels;
  readonly #definitions = new ModelDefinitions();
  readonly #calls: ReplicaCalls;
  readonly #expiry: SessionExpiry;
  #hasRun = false;

  constructor(
    options: ReplicaOptions,
    host: ReplicaHost,
    counters: ReplicaCounters,
    clock: Clock,
    observer: ReplicaObserver,
  ) {
    this.id = options.id;
    this.deployment = options.deployment;
    this.labels = options.labels;
    this.isExpress = options.isExpress;
    this.killsCancelled = options.killsCancelled;
    this.counters = counters;
    this.#options = options;
    this.#observer = observer;
    this.#host = host;
    const models = new ReplicaModels((modelKey) => observer.modelChanged(this, modelKey));
    this.#lifecycle = new ReplicaLifecycle(options, host, counters, clock, {
      stateChanged: (state) => this.#stateChanged(state),
      failed: (error) => {
        this.#expiry.stop();
        observer.failed(this, error);
        models.clear();
      },
      ending: () => {
        this.#expiry.stop();
        models.clear();
      },
    });
    const lost = (cause: unknown) => this.#lifecycle.lost(cause);
    const environment = { host, counters, models, definitions: this.#definitions, lost, gone: () => this.gone };
    this.#models = models;
    this.#calls = new ReplicaCalls(environment);
    this.handler = new HandlerCalls(environment, this.#calls);
    this.weights = new ReplicaWeights(options, environment, this.#calls);
    this.#expiry = new SessionExpiry(clock, () => this.#expire());
    host.onEvent((event) => this.#onEvent(event));
  }

  get state(): ReplicaState {
    return this.#lifecycle.state;
  }

  /** Id of its process; undefined for a thread, and when it has ended. */
  get pid(): number | undefined {
    return isFinal(this.state) ? undefined : this.#host.pid;
  }

  get leadMs(): number {
    return this.#host.leadMs;
  }

  get isFailed(): boolean {
    return this.state === 'failed';
  }

  /** Resolves when the thread is gone and nothing uses it any more. */
  get gone(): Promise<void> {
    return this.#lifecycle.gone;
  }

  /** Models that the replica has or is loading, by key. */
  get models(): ReadonlyMap<string, ModelState> {
    return this.#models.states;
  }

  /** Keys of the models that are never evicted. */
  get pinned(): ReadonlySet<string> {
    return this.#models.pinned;
  }

  /** What the handler is given in one call; undefined without a handler. */
  get handles(): 'requests' | 'batches' | undefined {
    return this.hello?.handler?.takes;
  }

  /** Dispatches that wait for what they run in the engine. */
  get awaiting(): number {
    return isFinal(this.state) ? 0 : this.handler.nested.awaiting;
  }

  /** Requests sent to the replica and not finished. */
  get ongoing(): number {
    return isFinal(this.state) ? 0 : this.counters.ongoing;
  }

  get dispatches(): number {
    return isFinal(this.state) ? 0 : this.counters.dispatches;
  }

  /** Replicas of the engine with unfinished requests, other than this one. */
  get othersAtWork(): number {
    return this.counters.othersAtWork;
  }

  /** Whether a load was ordered and has not ended: it blocks the thread. */
  get isLoading(): boolean {
    return this.#models.isLoading;
  }

  get loadUnderWay(): ModelName | undefined {
    return this.#models.loadUnderWay;
  }

  /** Whether the thread loads a model, or a session that takes the place of another. */
  get isInLoad(): boolean {
    return this.loadUnderWay !== undefined || this.weights.isSharing;
  }

  /** Whether a load of the model was ordered and has not ended; a handler's request that names the model orders none. */
  isTrying(modelKey: string): boolean {
    return this.#models.isTrying(modelKey);
  }

  /** Bytes that a handler has said its own model takes. */
  bytesOfOwn(key: string): number {
    return this.#models.ownBytes.get(key) ?? 0;
  }

  get freeBytes(): number {
    const { maxModelBytes } = this.#options;
    return maxModelBytes === -1 ? Number.POSITIVE_INFINITY : maxModelBytes - this.counters.bytes;
  }

  get freeModels(): number {
    const { maxModels } = this.#options;
    return maxModels === -1 ? Number.POSITIVE_INFINITY : Math.max(0, maxModels - this.models.size);
  }

  /** Whether the replica ever took requests. */
  get hasRun(): boolean {
    return this.#hasRun;
  }

  /** What the thread told of itself in its hello; undefined before that. */
  get hello(): HelloAnswer | undefined {
    return this.#lifecycle.hello;
  }

  /** The statistics that the handler last reported; undefined if it reports none. */
  get ownStats(): Readonly<Record<string, unknown>> | undefined {
    return this.handler.ownStats;
  }

  /**
   * Starts the thread and waits for its hello.
   *
   * @throws InfermuxError `REPLICA_FAILED` with the reason; the replica is then `failed`.
   */
  start(): Promise<void> {
    return this.#lifecycle.start();
  }

  /**
   * Runs the requests of one dispatch. A model that is not among `models` counts as loading from now on.
   *
   * @throws InfermuxError by rejection: the thread's error for all requests; `REPLICA_FAILED` when the thread died or
   *   stopped, which says nothing about the requests.
   */
  run(dispatch: ReplicaDispatch): Promise<ReplicaAnswer> {
    if (this.state !== 'running') return Promise.reject(this.#notRunning());
    const { model, groups } = dispatch;
    return groups[0]?.payloads === undefined ? this.#calls.run(dispatch) : this.handler.run(model, groups);
  }

  /**
   * Loads the model unless the replica has it. It counts as loading from now on, so the replica takes no other work
   * meanwhile.
   *
   * @throws InfermuxError `MODEL_LOAD_FAILED`; `FAILED_PRECONDITION` when no place is left to pin it; `REPLICA_FAILED`.
   */
  async load(model: ModelReference, settings: LoadSettings): Promise<void> {
    if (this.state !== 'running') throw this.#notRunning();
    await this.#calls.load(model, settings);
  }

  /**
   * Releases the model's sessions, after a load under way and the last request that uses it. A later request loads the
   * model again.
   *
   * @returns bytes of the model's files; 0 when the model had no session.
   * @throws InfermuxError `REPLICA_FAILED`.
   */
  async unload(key: string, reason: UnloadMessage['reason']): Promise<number> {
    // A handler may have loaded the model by itself.
    const known = [key, wideKeyOf(key)].filter((each) => this.#definitions.forget(each) || this.models.has(each));
    return this.state === 'running' ? this.#calls.unload(known, reason) : 0;
  }

  /**
   * Answers the thread's request for the definition of a model. A model that is not among `models` counts as loading
   * from now on, until the thread has loaded it, or says that it does not.
   */
  define(wanted: number, model: DefinedModel | InfermuxError): void {
    this.#calls.define(wanted, model);
  }

  /** {@link HandlerCalls.checkHealth}. */
  checkHealth(): Promise<void> {
    return this.handler.checkHealth();
  }

  /** {@link HandlerCalls.recordRoutingStats}. */
  recordRoutingStats(isLate: () => boolean): Promise<void> {
    return this.handler.recordRoutingStats(isLate);
  }

  /**
   * Takes no new work, lets given work end, and ends the thread. Resolves when the thread is gone. Idempotent.
   *
   * @param hurry answers given work that has not begun with `REPLICA_FAILED` instead of running it.
   */
  stop(how: { hurry: boolean }): Promise<void> {
    return this.#lifecycle.stop(how);
  }

  /** Rejects the replica's callers with `REPLICA_FAILED`, and ends its thread as soon as it is in no native call. */
  abandon(cause: Error): void {
    this.#lifecycle.fail(cause);
  }

  #notRunning(): InfermuxError {
    return new InfermuxError('REPLICA_FAILED', `replica ${this.id} is ${this.state}`);
  }

  #stateChanged(state: ReplicaState): void {
    if (state === 'running') {
      this.#hasRun = true;
      if (this.#options.isHandler) this.#models.states.set(NO_MODEL, 'loaded');
    }
    this.#observer.stateChanged(this, state);
  }

  #onEvent(event: ReplicaEvent): void {
    if (isFinal(this.state)) return;
    if (event.kind === 'items') {
      this.handler.items(event.ticket, event.items);
      return;
    }
    this.#observer.event(this, event);
    this.#models.reported(event);
    if (event.kind === 'model-loaded') this.#expiry.schedule(this.#options.modelIdleTimeoutMs);
  }

  async #expire(): Promise<number | undefined> {
    if (this.state !== 'running') return undefined;
    try {
      const { nextInMs } = await this.#calls.ask<ExpireAnswer>({ kind: 'expire' });
      return nextInMs;
    } catch (cause) {
      this.#lifecycle.fail(cause);
      return undefined;
    }
  }
}
