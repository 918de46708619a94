import { setMaxListeners } from 'node:events';
import type { Registry } from 'prom-client';
import { checkOptions, isMilliseconds } from './check.js';
import { systemClock } from './clock.js';
import { InfermuxError, reading, unreadable } from './errors.js';
import { checkFeeds, checkOutputNames, ownFeeds, readFeeds, transferFeeds, wholeBuffers } from './feeds.js';
import { KeepAlive } from './keep-alive.js';
import { ModelCatalog } from './models/model-catalog.js';
import type { ModelHost, ModelHosts } from './models/model-host.js';
import { ModelManager } from './models/model-manager.js';
import { readSources } from './models/model-sources.js';
import type { FoundModel, RegisteredModel } from './models/registered-model.js';
import { Log } from './observability/logger.js';
import { EngineMetrics } from './observability/metrics.js';
import { type EngineOptions, type ResolvedOptions, resolveOptions } from './options.js';
import { fromErrorRecord } from './protocol/error-record.js';
import type { ReplicaEvent } from './protocol/messages.js';
import type { Replica } from './replicas/replica.js';
import { ReplicaPool, type ReplicaPoolEnvironment } from './replicas/replica-pool.js';
import { Dispatcher } from './routing/dispatcher.js';
import type { RoutedResult } from './routing/pending-request.js';
import { PowerOfTwoChoicesRouter } from './routing/power-of-two-choices-router.js';
import { type RunOptions, readInferenceRequest, readRunOptions, timeLeftMs } from './run-options.js';
import { DEPLOYMENT, type EngineState, type EngineStatus, readStatus } from './status.js';
import type { Feeds, ModelMetadata, Outputs } from './tensor.js';

/** A load that takes longer is worth a warning. */
const SLOW_LOAD_MS = 1_000;

/** What one request was answered with, and how it fared. */
export interface InferenceResult {
  readonly outputs: Outputs;
  readonly model: string;
  readonly version: number;
  readonly deployment: string;
  readonly replica: string;
  /** Requests that shared its onnxruntime call. */
  readonly batchSize: number;
  readonly timings: InferenceTimings;
}

/** Milliseconds. */
export interface InferenceTimings {
  /** From the call to a replica. */
  readonly queueMs: number;
  /** Waiting for the model's load; 0 when the replica had it. */
  readonly loadMs: number;
  /** In onnxruntime. */
  readonly runMs: number;
  /** From the call to the answer. */
  readonly totalMs: number;
}

export interface CloseOptions {
  /**
   * Milliseconds that accepted work may go on; what is not answered by then is rejected with `ENGINE_CLOSED`. Default:
   * `gracefulShutdownTimeoutMs`.
   */
  readonly graceMs?: number | undefined;
}

export interface InferenceRequest extends RunOptions {
  /** A model id, which stands for its latest version, or `id@version`. */
  readonly target: string;
  readonly feeds: Feeds;
}

/**
 * Starts an engine: reads what models there are, and resolves when its replicas run and those models are loaded that are to
 * be there from the start; usually none. A model of a directory that cannot be served is logged, and refused when it is asked
 * for.
 *
 * @throws InfermuxError `INVALID_ARGUMENT` for bad options, `FAILED_PRECONDITION` for a directory, or a model named by its
 *   path, that cannot be read, `REPLICA_FAILED` when no replica starts.
 */
export function createEngine(options?: EngineOptions): Promise<InferenceEngine> {
  return startEngine(options, { clock: systemClock });
}

/** {@link createEngine} with the surroundings named: for tests. */
export async function startEngine(
  options: EngineOptions | undefined,
  environment: ReplicaPoolEnvironment,
): Promise<InferenceEngine> {
  const resolved = reading('options', () => resolveOptions(options));
  const { models } = resolved;
  return InferenceEngine.start(resolved, typeof models === 'string' ? [] : await readSources(models), environment);
}

/** Many models on a pool of worker threads. Made by {@link createEngine}; to be closed when it is no longer needed. */
export class InferenceEngine {
  readonly #options: ResolvedOptions;
  /**
   * Loads, unloads, deploys and lists models.
   *
   * @readonly
   */
  readonly models: ModelManager;
  readonly #catalog = new ModelCatalog();
  readonly #clock: ReplicaPoolEnvironment['clock'];
  readonly #log: Log;
  readonly #metrics: EngineMetrics;
  readonly #keepAlive = new KeepAlive();
  readonly #dispatcher: Dispatcher<Replica>;
  readonly #pool: ReplicaPool;
  #state: EngineState = 'running';
  #closed: Promise<void> | undefined;
  #destroyed: Promise<void> | undefined;
  #ended: Promise<void> | undefined;

  private constructor(options: ResolvedOptions, environment: ReplicaPoolEnvironment) {
    this.#options = options;
    this.#clock = environment.clock;
    this.#log = new Log(options.logger);
    this.#metrics = new EngineMetrics(
      {
        queued: () => this.#dispatcher.queued,
        replicas: () => this.#replicasForMetrics(),
        loaded: () => this.#loadedForMetrics(),
      },
      { registry: options.registry, modelLabels: options.metrics.modelLabels ?? true },
    );
    this.#dispatcher = new Dispatcher(options, new PowerOfTwoChoicesRouter(Math.random), environment.clock, {
      busy: () => this.#keepAlive.hold(),
      idle: () => this.#keepAlive.release(),
      accepted: ({ model, feeds, transferred }) => {
        this.#metrics.requestAccepted(model.id);
        // Not before: a caller that is refused keeps its arrays.
        if (transferred !== undefined) transferFeeds(feeds, transferred);
      },
      given: (replica, requests) => this.#metrics.requestsGiven(replica, requests),
      waited: (queueMs) => this.#metrics.requestWaited(queueMs),
      answered: (model, result) => this.#metrics.requestAnswered(model.id, result),
      failed: ({ code }) => this.#metrics.requestFailed(code),
      called: (model, requests) => this.#metrics.called(model.id, requests),
      batchingSwitchedOff: ({ id: model }, reason) => {
        this.#metrics.batchVerificationFailed(model);
        const message = 'the model gives something else in a batch than alone: batching is switched off for it';
        this.#log.write('warn', { model, reason }, message);
      },
    });
    this.#pool = this.#createPool(environment);
    this.models = this.#createManager();
  }

  /** @internal */
  static async start(
    options: ResolvedOptions,
    models: readonly FoundModel[],
    environment: ReplicaPoolEnvironment,
  ): Promise<InferenceEngine> {
    const engine = new InferenceEngine(options, environment);
    try {
      await engine.#keepAlive.during(() => engine.#begin(models));
      return engine;
    } catch (error) {
      await engine.destroy();
      throw error;
    }
  }

  /** The Prometheus metrics: `await engine.metrics.metrics()` is the text to serve. */
  get metrics(): Registry {
    return this.#metrics.registry;
  }

  /**
   * Runs a model and returns its outputs.
   *
   * @param target a model id, which stands for its latest version, or `id@version`.
   * @param feeds every input by name; the arrays may be changed as soon as this returns its promise.
   * @throws InfermuxError by rejection; see `ERROR_CODES`.
   */
  run(target: string, feeds: Feeds, runOptions?: RunOptions): Promise<Outputs> {
    try {
      this.#checkRunning();
      return this.#submit(this.#modelFor(target), feeds, readRunOptions(runOptions), outputsOf);
    } catch (cause) {
      return this.#refuse(cause);
    }
  }

  /** {@link run}, with the answer's circumstances. */
  infer(request: InferenceRequest): Promise<InferenceResult> {
    try {
      this.#checkRunning();
      const { target, feeds, ...options } = readInferenceRequest(request);
      const model = this.#modelFor(target);
      return this.#submit(model, feeds, options, (result) => inferenceResult(model, result));
    } catch (cause) {
      return this.#refuse(cause);
    }
  }

  /**
   * Loads a model and says what it takes and gives.
   *
   * @internal
   */
  async loadMetadata(target: string): Promise<ModelMetadata> {
    await this.models.retrieve(target);
    const metadata = this.#catalog.metadata(this.#catalog.resolve(target).key);
    if (metadata === undefined) throw new InfermuxError('INTERNAL', `model ${target} was loaded without its metadata`);
    return metadata;
  }

  /** A snapshot of deployments, replicas and models. */
  status(): EngineStatus {
    return readStatus(this.#state, this.#dispatcher.queued, this.#pool.places, this.#catalog);
  }

  /**
   * Takes no new work, finishes what was accepted and ends the threads. Idempotent: the first call's grace counts, and
   * `destroy()` cuts it short.
   *
   * @throws InfermuxError `INVALID_ARGUMENT` for a grace that is none; the engine goes on then.
   */
  async close(options: CloseOptions = {}): Promise<void> {
    checkOptions('close', options, { graceMs: isMilliseconds({ lowest: 0 }) });
    const { graceMs = this.#options.gracefulShutdownTimeoutMs } = options;
    this.#closed ??= this.#keepAlive.during(async () => {
      this.#beginClosing();
      this.#dispatcher.close(closedError('the engine is closing'));
      const isDrained = await this.#within(this.#dispatcher.untilIdle(), graceMs);
      if (!isDrained) this.#dispatcher.destroy(closedError(`the engine was closed and ${graceMs} ms of grace passed`));
      await this.#end({ hurry: !isDrained });
    });
    return this.#closed;
  }

  /**
   * Rejects all work at once with `ENGINE_CLOSED` and ends the threads as soon as they are in no native call. Resolves when
   * they are gone, or after `gracefulShutdownTimeoutMs`; a thread that is still in a call then ends after it. Idempotent.
   */
  destroy(): Promise<void> {
    this.#destroyed ??= this.#keepAlive.during(async () => {
      this.#beginClosing();
      this.#dispatcher.destroy(closedError('the engine was destroyed'));
      await this.#end({ hurry: true });
    });
    return this.#destroyed;
  }

  /** {@link close}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #begin(models: readonly FoundModel[]): Promise<void> {
    await this.models.open(models);
    if (this.#catalog.models.length === 0) {
      this.#log.write('warn', { models: this.#options.models }, 'no models found');
    }
    await this.#pool.start();
    const loaded = this.models.loadInitial();
    if (this.#options.repository.waitForInitialLoad) await loaded;
  }

  #modelFor(target: string): RegisteredModel {
    const model = this.#catalog.resolve(target);
    this.models.checkMayRun(model);
    return model;
  }

  #checkRunning(): void {
    if (this.#state !== 'running') throw closedError(`the engine is ${this.#state}`);
  }

  /** What is refused before it is accepted is a rejection too, and nothing is thrown at the caller. */
  #refuse(cause: unknown): Promise<never> {
    const error = unreadable('the request', cause);
    this.#metrics.requestFailed(error.code);
    return Promise.reject(error);
  }

  /** All of this happens in the caller's turn, so that the feeds are owned before the caller goes on. */
  #submit<T>(model: RegisteredModel, feeds: Feeds, options: RunOptions, read: (result: RoutedResult) => T): Promise<T> {
    const metadata = this.#catalog.metadata(model.key);
    const given = readFeeds(feeds);
    if (metadata !== undefined) {
      checkFeeds(model.id, given, metadata.inputs);
      checkOutputNames(model.id, options.outputs, metadata.outputs);
    }
    const { signal, priority = 0 } = options;
    // A signal that many requests share is no leak.
    if (signal !== undefined) setMaxListeners(0, signal);
    const leftMs = timeLeftMs(options, this.#options.defaultTimeoutMs, Date.now);
    const deadline = leftMs === undefined ? undefined : this.#clock.now() + leftMs;
    const { outputs, transfer } = options;
    const transferred = transfer === true ? wholeBuffers(given) : undefined;
    const releaseFeeds = ownFeeds(given, transferred);
    const checked = metadata !== undefined;
    return this.#dispatcher.submit(
      {
        model,
        feeds: given,
        outputs: outputs && [...outputs],
        checked,
        priority,
        signal,
        deadline,
        transferred,
        releaseFeeds,
      },
      read,
    );
  }

  #createPool(environment: ReplicaPoolEnvironment): ReplicaPool {
    const options = this.#options;
    return new ReplicaPool(
      {
        name: DEPLOYMENT,
        replicas: options.replicas,
        maxModels: options.maxModelsPerReplica,
        maxModelBytes: options.maxModelBytesPerReplica,
        modelIdleTimeoutMs: options.modelIdleTimeoutMs,
        session: { ...options.session },
        weights: options.weights,
        weightStore: options.weightStore,
      },
      environment,
      {
        running: (replica) => {
          this.#dispatcher.addReplica(replica);
          this.models.replicaRunning(replica);
        },
        left: (replica, crash) => {
          this.#dispatcher.removeReplica(replica, crash);
          this.models.replicaLeft(replica.id);
        },
        modelChanged: (replica, modelKey) => this.#dispatcher.modelChanged(replica, modelKey),
        outage: (error) => {
          this.#log.write('error', { err: error }, 'no replica can be started');
          this.#dispatcher.declareOutage(error);
        },
        restarting: (replica, error, delayMs) => {
          this.#metrics.replicaRestarted(replica);
          this.#log.write('warn', { replica, err: error, delayMs }, 'replica failed and is restarted');
        },
        stateChanged: ({ id, hello }, state) =>
          this.#log.write('info', { replica: id, state, ...hello }, 'replica changed state'),
        event: (replica, event) => this.#onReplicaEvent(replica, event),
      },
    );
  }

  #createManager(): ModelManager {
    const { models, repository, weights, replicas } = this.#options;
    const hosts: ModelHosts = {
      wanted: replicas,
      running: () => this.#pool.places.map(({ replica }) => replica).filter(isRunning),
      loadRefusal: (model) => this.#dispatcher.loadRefusal(model),
      untilUnused: (key) => this.#dispatcher.untilModelUnused(key),
      forget: (key) => this.#dispatcher.forgetModel(key),
    };
    return new ModelManager(
      { directory: typeof models === 'string' ? models : undefined, repository, weights },
      {
        ...{ catalog: this.#catalog, hosts, clock: this.#clock },
        log: (level, fields, message) => this.#log.write(level, fields, message),
        during: (work) => this.#keepAlive.during(work),
      },
    );
  }

  #onReplicaEvent({ id: replica }: Replica, event: ReplicaEvent): void {
    if (event.kind === 'log') {
      this.#log.write(event.level, { replica, ...event.fields }, event.message);
      return;
    }
    const registered = this.#catalog.byKey(event.key);
    const { id: model, format: type } = registered ?? { id: event.key, format: 'onnx' };
    switch (event.kind) {
      case 'model-loading':
        this.#log.write('debug', { replica, model }, 'model is loading');
        break;
      case 'model-loaded': {
        const { loadMs, bytes, memoryBytes, metadata } = event;
        this.#catalog.setMetadata(event.key, metadata);
        if (registered !== undefined) {
          this.#dispatcher.modelLoaded(registered, loadMs, metadata);
          this.models.modelLoaded(replica, registered, memoryBytes);
        }
        this.#metrics.modelLoaded(replica, model, type, loadMs);
        this.#log.write('info', { replica, model, loadMs, bytes, memoryBytes }, 'model loaded');
        if (loadMs > SLOW_LOAD_MS) this.#log.write('warn', { replica, model, loadMs }, 'slow model load');
        break;
      }
      case 'model-load-failed': {
        const { error, nextTryInMs } = event;
        this.models.modelLoadFailed(replica, event.key, fromErrorRecord(error), nextTryInMs);
        this.#metrics.modelLoadFailed(replica, type, error.code);
        this.#log.write('warn', { replica, model, reason: error.message, nextTryInMs }, 'model load failed');
        break;
      }
      case 'model-unloaded':
        this.#metrics.modelUnloaded(replica, event.reason, event.unloadMs, event.idleMs);
        this.#log.write('info', { replica, model, reason: event.reason }, 'model unloaded');
        break;
    }
  }

  #beginClosing(): void {
    if (this.#state !== 'running') return;
    this.#state = 'closing';
    this.models.close(closedError('the engine is closing'));
  }

  /** Ends all threads; those that overrun are left to end by themselves. */
  #end(how: { hurry: boolean }): Promise<void> {
    const stopped = this.#pool.stop(how);
    this.#ended ??= this.#finish(stopped);
    return this.#ended;
  }

  async #finish(stopped: Promise<void>): Promise<void> {
    const { gracefulShutdownTimeoutMs } = this.#options;
    if (!(await this.#within(stopped, gracefulShutdownTimeoutMs))) {
      const message = 'replicas are still in a native call and were abandoned';
      this.#log.write('warn', { gracefulShutdownTimeoutMs }, message);
    }
    this.#metrics.close();
    this.#state = 'closed';
  }

  /** Whether the work ended within so many milliseconds. */
  async #within(work: Promise<void>, milliseconds: number): Promise<boolean> {
    let cancel: () => void = () => undefined;
    const timeout = new Promise<false>((resolve) => {
      cancel = this.#clock.schedule(() => resolve(false), milliseconds);
    });
    try {
      return await Promise.race([work.then(() => true), timeout]);
    } finally {
      cancel();
    }
  }

  #loadedForMetrics() {
    const byType = new Map([
      ['onnx', { type: 'onnx', models: 0, bytes: 0 }],
      ['ort', { type: 'ort', models: 0, bytes: 0 }],
    ]);
    for (const { replica } of this.#pool.places) {
      for (const [key, state] of replica?.models ?? []) {
        const { format = 'onnx', bytes = 0 } = this.#catalog.byKey(key) ?? {};
        const sum = byType.get(format);
        if (sum === undefined || state !== 'loaded') continue;
        sum.models += 1;
        sum.bytes += bytes;
      }
    }
    return byType.values();
  }

  *#replicasForMetrics() {
    for (const { id, replica } of this.#pool.places) {
      if (replica === undefined) continue;
      const models = [...replica.models.keys()].map((key) => this.#catalog.byKey(key)?.id ?? key);
      yield { id, isRunning: replica.state === 'running', ongoing: replica.ongoing, models };
    }
  }
}

function isRunning(replica: (ModelHost & Replica) | undefined): replica is Replica {
  return replica?.state === 'running';
}

function closedError(message: string): InfermuxError {
  return new InfermuxError('ENGINE_CLOSED', message);
}

function outputsOf({ outputs }: RoutedResult): Outputs {
  return outputs;
}

function inferenceResult({ id: model, version }: RegisteredModel, result: RoutedResult): InferenceResult {
  const { outputs, replica, batchSize, queueMs, loadMs, runMs, totalMs } = result;
  const timings = { queueMs, loadMs, runMs, totalMs };
  return { outputs, model, version, deployment: DEPLOYMENT, replica, batchSize, timings };
}
