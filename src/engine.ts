import { setMaxListeners } from 'node:events';
import type { Registry } from 'prom-client';
import { checkOptions, isMilliseconds } from './check.js';
import { systemClock } from './clock.js';
import { DEFAULT_DEPLOYMENT } from './deployment-name.js';
import { demandOf, machineCapacity, whyTooMany } from './deployments/capacity.js';
import { Checkpoint } from './deployments/checkpoint.js';
import { Deployment } from './deployments/deployment.js';
import { MOST_REPLICAS, type ResolvedDeploymentOptions } from './deployments/deployment-options.js';
import { type DeploymentReport, Deployments } from './deployments/deployments.js';
import { Endpoints } from './endpoints/endpoints.js';
import { EngineCheckpoint } from './engine-checkpoint.js';
import { InfermuxError, messageOf, reading, show, toInfermuxError, unreadable } from './errors.js';
import { checkFeeds, checkOutputNames, ownFeeds, readFeeds, transferFeeds, wholeBuffers } from './feeds.js';
import { isHandlersKey } from './handler.js';
import { KeepAlive } from './keep-alive.js';
import { ModelCatalog } from './models/model-catalog.js';
import type { ModelHosts } from './models/model-host.js';
import { ModelManager } from './models/model-manager.js';
import { readSources } from './models/model-sources.js';
import type { RegisteredModel } from './models/registered-model.js';
import { Log } from './observability/logger.js';
import { EngineMetrics } from './observability/metrics.js';
import { defaultReplicas, type EngineOptions, type ResolvedOptions, resolveOptions } from './options.js';
import { fromErrorRecord } from './protocol/error-record.js';
import type { ReplicaEvent } from './protocol/messages.js';
import type { Replica } from './replicas/replica.js';
import { ReplicaMemory, type ReplicaPoolEnvironment } from './replicas/replica-pool.js';
import { Dispatcher } from './routing/dispatcher.js';
import type { RoutedResult } from './routing/pending-request.js';
import { PowerOfTwoChoicesRouter } from './routing/power-of-two-choices-router.js';
import { type RunOptions, readInferenceRequest, readRunOptions, timeLeftMs } from './run-options.js';
import { areReady, type EngineState, type EngineStatus, loadedModels, readStatus, replicasAtWork } from './status.js';
import { type Destination, Targets } from './targets.js';
import type { Feeds, ModelMetadata, Outputs } from './tensor.js';

/** Copies of requests go behind all others. */
const LOWEST_PRIORITY = Number.MIN_SAFE_INTEGER;
/** A load that takes longer is worth a warning. */
const SLOW_LOAD_MS = 1_000;

/** What one request was answered with, and how it fared. */
export interface InferenceResult<Result = Outputs> {
  readonly outputs: Result;
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

export interface InferenceRequest<Request = Feeds> extends RunOptions {
  /** An endpoint, a model id, which stands for its latest version, `id@version`, or `deployment/model`. */
  readonly target: string;
  /** For a deployment with a handler: what it is given. */
  readonly feeds: Request;
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
  const { checkpoint: named } = resolved;
  const checkpoint = named && (await Checkpoint.open(named.file));
  return InferenceEngine.start(resolved, checkpoint, environment);
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
  /**
   * Creates, changes and deletes deployments.
   *
   * @readonly
   */
  readonly deployments: Deployments;
  /**
   * Shares requests among targets.
   *
   * @readonly
   */
  readonly endpoints: Endpoints;
  readonly #memory = new ReplicaMemory(2 * MOST_REPLICAS);
  readonly #catalog = new ModelCatalog(() => this.#memory.counters.catalogChanged());
  readonly #environment: ReplicaPoolEnvironment;
  readonly #clock: ReplicaPoolEnvironment['clock'];
  readonly #log: Log;
  readonly #metrics: EngineMetrics;
  readonly #keepAlive = new KeepAlive();
  readonly #checkpoint: EngineCheckpoint;
  /** Where the requests of each deployment wait. */
  readonly #dispatchers = new Map<Deployment, Dispatcher<Replica>>();
  readonly #targets: Targets;
  #state: EngineState = 'running';
  #closed: Promise<void> | undefined;
  #destroyed: Promise<void> | undefined;
  #ended: Promise<void> | undefined;

  private constructor(
    options: ResolvedOptions,
    checkpoint: Checkpoint | undefined,
    environment: ReplicaPoolEnvironment,
  ) {
    this.#options = options;
    this.#environment = environment;
    this.#clock = environment.clock;
    this.#log = new Log(options.logger);
    this.#checkpoint = new EngineCheckpoint(checkpoint, options);
    this.#metrics = new EngineMetrics(
      {
        deployments: () => this.deployments.list().map(forMetrics),
        replicas: () => replicasAtWork(this.deployments.all, this.#catalog),
        loaded: () => loadedModels(this.deployments.all, this.#catalog),
      },
      { registry: options.registry, modelLabels: options.metrics.modelLabels ?? true },
    );
    const log: Log['write'] = (level, fields, message) => this.#log.write(level, fields, message);
    const during = <T>(work: () => Promise<T>) => this.#keepAlive.during(work);
    this.deployments = new Deployments({
      ...{ log, during, isSaved: checkpoint !== undefined },
      create: (name, resolved) => this.#createDeployment(name, resolved),
      gone: (deployment) => this.#dispatchers.delete(deployment),
      save: (deployments) => this.#checkpoint.save({ deployments }),
    });
    this.endpoints = new Endpoints({
      log,
      random: Math.random,
      checkTarget: (target) => void this.#targets.resolve(target, undefined),
      isModel: (name) => this.#catalog.find(name) !== undefined,
      save: (endpoints) => this.#checkpoint.save({ endpoints }),
    });
    this.#targets = new Targets(this.#catalog, this.deployments);
    const { models } = this.#checkpoint;
    this.models = new ModelManager(
      {
        directory: typeof models === 'string' ? models : undefined,
        repository: options.repository,
        weights: options.deployments[DEFAULT_DEPLOYMENT].weights,
      },
      {
        ...{ catalog: this.#catalog, hosts: this.#modelHosts(), clock: this.#clock, log, during },
        savePins: (pins) => this.#checkpoint.save({ pins }),
      },
    );
  }

  /** @internal */
  static async start(
    options: ResolvedOptions,
    checkpoint: Checkpoint | undefined,
    environment: ReplicaPoolEnvironment,
  ): Promise<InferenceEngine> {
    const engine = new InferenceEngine(options, checkpoint, environment);
    try {
      await engine.#keepAlive.during(() => engine.#begin());
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
   * Whether requests are answered: each deployment has a replica that runs, but for those that are to have none, also until
   * something is asked. `engine.deployments.get(name).ready` tells it of one.
   */
  get ready(): boolean {
    return areReady(this.#state, this.deployments.all);
  }

  /**
   * Gives a request to a deployment's handler and returns what it returned. In TypeScript `Result` has to be named.
   *
   * @param target a deployment with a handler, `deployment/model` for one of its models, or an endpoint.
   * @param request anything that can be cloned; it may be changed as soon as this returns its promise.
   */
  run<Result = never>(
    target: string,
    request: [Result] extends [never] ? never : unknown,
    runOptions?: RunOptions,
  ): Promise<NoInfer<Result>>;
  /**
   * Runs a model and returns its outputs.
   *
   * @param target an endpoint, a model id, which stands for its latest version, `id@version`, or `deployment/model`.
   * @param feeds every input by name; the arrays may be changed as soon as this returns its promise.
   * @throws InfermuxError by rejection; see `ERROR_CODES`.
   */
  run(target: string, feeds: Feeds, runOptions?: RunOptions): Promise<Outputs>;
  run(target: string, request: unknown, runOptions?: RunOptions): Promise<unknown> {
    try {
      this.#checkRunning();
      return this.#route(target, request, readRunOptions(runOptions), toOutputs);
    } catch (cause) {
      return this.#refuse(cause);
    }
  }

  /** {@link run} of a handler, with the answer's circumstances: what it is given is `feeds`, and what it returned `outputs`. */
  infer<Result = never>(
    request: [Result] extends [never] ? never : InferenceRequest<unknown>,
  ): Promise<InferenceResult<NoInfer<Result>>>;
  /** {@link run}, with the answer's circumstances. */
  infer(request: InferenceRequest): Promise<InferenceResult>;
  infer(request: InferenceRequest<unknown>): Promise<InferenceResult<unknown>> {
    try {
      this.#checkRunning();
      const { target, feeds, ...options } = readInferenceRequest(request);
      return this.#route(target, feeds, options, toResult);
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
    return readStatus(this.#state, this.deployments.all, this.#catalog);
  }

  /**
   * Takes no new work, finishes what was accepted and ends the threads. Idempotent: the first call's grace counts, and
   * `destroy()` cuts it short.
   *
   * @throws InfermuxError `INVALID_ARGUMENT` for a grace that is none; the engine goes on then.
   */
  async close(options: CloseOptions = {}): Promise<void> {
    checkOptions('close', options, { graceMs: isMilliseconds({ lowest: 0 }) });
    const { graceMs = this.#graceMs } = options;
    this.#closed ??= this.#keepAlive.during(async () => {
      this.#beginClosing();
      const dispatchers = [...this.#dispatchers.values()];
      for (const dispatcher of dispatchers) dispatcher.close(closedError('the engine is closing'));
      const idle = Promise.all(dispatchers.map((dispatcher) => dispatcher.untilIdle()));
      const isDrained = await this.#within(idle, graceMs);
      const late = closedError(`the engine was closed and ${graceMs} ms of grace passed`);
      if (!isDrained) for (const dispatcher of dispatchers) dispatcher.destroy(late);
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
      const error = closedError('the engine was destroyed');
      for (const dispatcher of this.#dispatchers.values()) dispatcher.destroy(error);
      await this.#end({ hurry: true });
    });
    return this.#destroyed;
  }

  /** {@link close}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  get #graceMs(): number {
    return this.#options.deployments[DEFAULT_DEPLOYMENT].gracefulShutdownTimeoutMs;
  }

  async #begin(): Promise<void> {
    const { models, deployments, endpoints, pins } = this.#checkpoint;
    await this.models.open(typeof models === 'string' ? [] : await readSources(models));
    this.models.restorePins(pins);
    if (this.#catalog.models.length === 0) this.#log.write('warn', { models }, 'no models found');
    await this.#checkpoint.saveModels();
    await this.deployments.open(this.#options.declared, defaultReplicas, deployments);
    this.endpoints.restore(endpoints);
    const loaded = this.models.loadInitial();
    if (this.#options.repository.waitForInitialLoad) await loaded;
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

  #route<T>(target: string, request: unknown, options: RunOptions, reader: Reader<T>): Promise<T> {
    const route = this.endpoints.route(target, options.shardKey);
    if (route === undefined) {
      return this.#submit(this.#targets.resolve(target, options.deployment), request, options, reader);
    }
    this.#metrics.endpointRequest(target);
    try {
      if (options.deployment !== undefined) {
        const message = `${show(target)} is an endpoint, whose targets name their deployments: leave out runOptions.deployment`;
        throw new InfermuxError('INVALID_ARGUMENT', message);
      }
      // Before the real one, which may take the caller's arrays over.
      for (const shadow of route.shadows) this.#submitShadow(target, shadow, request, options);
      const answer = this.#submit(this.#targets.resolve(route.target, undefined), request, options, reader);
      answer.catch(() => this.#metrics.endpointError(target));
      return answer;
    } catch (cause) {
      this.#metrics.endpointError(target);
      throw cause;
    }
  }

  /** Its answer is dropped, and its errors are nobody's. */
  #submitShadow(endpoint: string, target: string, request: unknown, options: RunOptions): void {
    this.#metrics.shadowRequest(endpoint, target);
    const failed = (cause: unknown) => this.#metrics.shadowError(endpoint, target, toInfermuxError(cause).code);
    try {
      const { outputs, timeoutMs, deadline } = options;
      const own = { outputs, timeoutMs, deadline, priority: LOWEST_PRIORITY };
      this.#submit(this.#targets.resolve(target, undefined), request, own, toNothing, true).catch(failed);
    } catch (cause) {
      failed(cause);
    }
  }

  /** All of this happens in the caller's turn, so that what it gave is owned before it goes on. */
  #submit<T>(
    destination: Destination,
    request: unknown,
    options: RunOptions,
    reader: Reader<T>,
    isShadow = false,
  ): Promise<T> {
    const { deployment } = destination;
    const dispatcher = this.#dispatchers.get(deployment);
    if (dispatcher === undefined) throw new InfermuxError('INTERNAL', `deployment ${deployment.name} has no queue`);
    const { signal, priority = 0 } = options;
    const given = destination.isHandled
      ? readHandlerRequest(request, options)
      : this.#readModelRequest(destination.model, request as Feeds, options);
    // A signal that many requests share is no leak.
    if (signal !== undefined) setMaxListeners(0, signal);
    const leftMs = timeLeftMs(options, deployment.options.defaultTimeoutMs, Date.now);
    const deadline = leftMs === undefined ? undefined : this.#clock.now() + leftMs;
    const { feeds, payload, outputs, checked, transferred, releaseFeeds } = given;
    return dispatcher.submit(
      {
        model: destination.model,
        feeds,
        payload,
        outputs,
        checked,
        priority,
        signal,
        deadline,
        transferred,
        isShadow,
        releaseFeeds,
      },
      reader(destination),
    );
  }

  #readModelRequest(model: RegisteredModel, feeds: Feeds, { outputs, transfer }: RunOptions) {
    this.models.checkMayRun(model);
    const metadata = this.#catalog.metadata(model.key);
    const given = readFeeds(feeds);
    if (metadata !== undefined) {
      checkFeeds(model.id, given, metadata.inputs);
      checkOutputNames(model.id, outputs, metadata.outputs);
    }
    const transferred = transfer === true ? wholeBuffers(given) : undefined;
    return {
      releaseFeeds: ownFeeds(given, transferred),
      feeds: given,
      payload: undefined,
      outputs: outputs && [...outputs],
      checked: metadata !== undefined,
      transferred,
    };
  }

  #createDeployment(name: string, options: ResolvedDeploymentOptions): Deployment {
    const dispatcher = this.#createDispatcher(name, options, () => deployment);
    const deployment: Deployment = new Deployment(name, options, {
      queue: dispatcher,
      memory: this.#memory,
      pool: this.#environment,
      weightStore: this.#options.weightStore,
      observer: {
        running: (replica) => this.models.replicaRunning(replica),
        left: (replica) => this.models.replicaLeft(replica.id),
        event: (replica, event) => this.#onReplicaEvent(dispatcher, replica, event),
        stateChanged: ({ id, hello }, state) =>
          this.#log.write('info', { replica: id, state, ...hello }, 'replica changed state'),
        restarting: (replica, error, delayMs) => {
          this.#metrics.replicaRestarted(replica);
          this.#log.write('warn', { replica, err: error, delayMs }, 'replica failed and is restarted');
        },
        outage: (error) => this.#log.write('error', { deployment: name, err: error }, 'no replica can be started'),
        scaled: (from, to) => this.#onScaled(name, from, to),
        log: (level, fields, message) => this.#log.write(level, fields, message),
      },
    });
    this.#dispatchers.set(deployment, dispatcher);
    return deployment;
  }

  #createDispatcher(
    name: string,
    options: ResolvedDeploymentOptions,
    deployment: () => Deployment,
  ): Dispatcher<Replica> {
    return new Dispatcher(options, new PowerOfTwoChoicesRouter(Math.random), this.#clock, {
      busy: () => this.#keepAlive.hold(),
      idle: () => this.#keepAlive.release(),
      accepted: ({ model, feeds, transferred }) => {
        this.#metrics.requestAccepted(model.id, name);
        // Not before: a caller that is refused keeps its arrays.
        if (transferred !== undefined) transferFeeds(feeds, transferred);
        if (deployment().targetReplicas === 0) deployment().requestArrived();
      },
      given: (replica, requests) => this.#metrics.requestsGiven(replica, requests),
      waited: (queueMs) => this.#metrics.requestWaited(queueMs),
      answered: (model, result) => this.#metrics.requestAnswered(model.id, result),
      failed: ({ code }, isShadow) => {
        if (!isShadow) this.#metrics.requestFailed(code, name);
      },
      called: (model, requests) => this.#metrics.called(model.id, requests),
      batchingSwitchedOff: ({ id: model }, reason) => {
        this.#metrics.batchVerificationFailed(model);
        const message = 'the model gives something else in a batch than alone: batching is switched off for it';
        this.#log.write('warn', { model, reason }, message);
      },
    });
  }

  #modelHosts(): ModelHosts {
    return {
      wanted: (deployment) => this.deployments.require(deployment).targetReplicas,
      running: () => this.deployments.all.flatMap(({ running }) => running),
      loadRefusal: (model, deployment) => {
        const dispatcher = this.#dispatchers.get(this.deployments.require(deployment));
        return dispatcher?.loadRefusal(model);
      },
      untilUnused: async (key) => {
        await Promise.all([...this.#dispatchers.values()].map((dispatcher) => dispatcher.untilModelUnused(key)));
      },
      forget: (key) => {
        for (const dispatcher of this.#dispatchers.values()) dispatcher.forgetModel(key);
      },
    };
  }

  #onScaled(deployment: string, from: number, to: number): void {
    if (from > 0) this.#log.write('info', { deployment, from, to }, 'deployment is scaled');
    const reason = whyTooMany(demandOf(this.deployments.all, to - from), machineCapacity());
    if (reason === undefined) return;
    this.#log.write('warn', { deployment, replicas: to, reason }, 'more replicas than this machine bears');
  }

  #onReplicaEvent(dispatcher: Dispatcher<Replica>, replica: Replica, event: ReplicaEvent): void {
    const { id } = replica;
    if (event.kind === 'log') {
      this.#log.write(event.level, { replica: id, ...event.fields }, event.message);
      return;
    }
    if (event.kind === 'model-wanted') {
      replica.define(event.wanted, this.#wantedBy(event.target));
      return;
    }
    const registered = this.#catalog.byKey(event.key);
    const { id: model, format: type } = registered ?? { id: event.key, format: 'onnx' };
    switch (event.kind) {
      case 'model-loading':
        this.#log.write('debug', { replica: id, model }, 'model is loading');
        break;
      case 'model-loaded': {
        const { loadMs, bytes, memoryBytes, metadata } = event;
        this.#catalog.setMetadata(event.key, metadata);
        if (registered !== undefined) {
          dispatcher.modelLoaded(registered, loadMs, metadata);
          this.models.modelLoaded(id, registered, memoryBytes);
        } else if (!isHandlersKey(event.key)) {
          // A handler asked for it, and it was removed before it was there.
          void replica.unload(event.key, 'unloaded').catch(() => undefined);
        }
        this.#metrics.modelLoaded(id, model, type, loadMs);
        this.#log.write('info', { replica: id, model, loadMs, bytes, memoryBytes }, 'model loaded');
        if (loadMs > SLOW_LOAD_MS) this.#log.write('warn', { replica: id, model, loadMs }, 'slow model load');
        break;
      }
      case 'model-load-failed': {
        const { error, nextTryInMs } = event;
        this.models.modelLoadFailed(id, event.key, fromErrorRecord(error), nextTryInMs);
        this.#metrics.modelLoadFailed(id, type, error.code);
        this.#log.write('warn', { replica: id, model, reason: error.message, nextTryInMs }, 'model load failed');
        break;
      }
      case 'model-unloaded':
        this.#metrics.modelUnloaded(id, event.reason, event.unloadMs, event.idleMs);
        this.#log.write('info', { replica: id, model, reason: event.reason }, 'model unloaded');
        break;
    }
  }

  #wantedBy(target: string): RegisteredModel | InfermuxError {
    try {
      const model = this.#catalog.resolve(target);
      this.models.checkMayRun(model);
      return model;
    } catch (cause) {
      return toInfermuxError(cause);
    }
  }

  #beginClosing(): void {
    if (this.#state !== 'running') return;
    this.#state = 'closing';
    const error = closedError('the engine is closing');
    this.models.close(error);
    this.deployments.close(error);
    this.endpoints.close(error);
  }

  /** Ends all threads; those that overrun are left to end by themselves. */
  #end(how: { hurry: boolean }): Promise<void> {
    const stopped = Promise.all(this.deployments.all.map((deployment) => deployment.stop(how)));
    this.#ended ??= this.#finish(stopped);
    return this.#ended;
  }

  async #finish(stopped: Promise<unknown>): Promise<void> {
    const gracefulShutdownTimeoutMs = this.#graceMs;
    if (!(await this.#within(stopped, gracefulShutdownTimeoutMs))) {
      const message = 'replicas are still in a native call and were abandoned';
      this.#log.write('warn', { gracefulShutdownTimeoutMs }, message);
    }
    this.#metrics.close();
    this.#state = 'closed';
  }

  /** Whether the work ended within so many milliseconds. */
  async #within(work: Promise<unknown>, milliseconds: number): Promise<boolean> {
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
}

/** Says how to make of a result what the caller gets. */
type Reader<T> = (destination: Destination) => (result: RoutedResult) => T;

const outputsOf = ({ outputs }: RoutedResult): Outputs => outputs;
const toOutputs: Reader<Outputs> = () => outputsOf;
const toNothing: Reader<void> = () => () => undefined;

const toResult: Reader<InferenceResult> =
  ({ deployment: { name: deployment }, model }) =>
  ({ outputs, replica, batchSize, queueMs, loadMs, runMs, totalMs }) => {
    const version = 'version' in model ? (model as RegisteredModel).version : 1;
    const timings = { queueMs, loadMs, runMs, totalMs };
    return { outputs, model: model.id, version, deployment, replica, batchSize, timings };
  };

/** A copy of what a handler is to be given. */
function readHandlerRequest(request: unknown, { outputs, transfer }: RunOptions) {
  if (outputs !== undefined || transfer === true) {
    const message = 'outputs and transfer are for models, and a handler takes this request';
    throw new InfermuxError('INVALID_ARGUMENT', message);
  }
  let value: unknown;
  try {
    value = structuredClone(request);
  } catch (cause) {
    const message = `the request cannot be cloned, and so cannot go to a handler: ${messageOf(cause)}`;
    throw new InfermuxError('INVALID_ARGUMENT', message, { cause });
  }
  const controller = new AbortController();
  const payload = { value, abandoned: controller.signal, abandon: () => controller.abort() };
  const none = { releaseFeeds: undefined, outputs: undefined, transferred: undefined };
  return { ...none, feeds: {}, payload, checked: true };
}

function forMetrics({ name, queued, targetReplicas: target, runningReplicas: running }: DeploymentReport) {
  return { name, queued, target, running };
}

function closedError(message: string): InfermuxError {
  return new InfermuxError('ENGINE_CLOSED', message);
}
