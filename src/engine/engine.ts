import { setMaxListeners } from 'node:events';
import type { Registry } from 'prom-client';
import { checkOptions, isMilliseconds } from '../common/checks.js';
import { settlesWithin, systemClock } from '../common/clock.js';
import { InfermuxError, readingInput, show, toInfermuxError, unreadableInput } from '../common/errors.js';
import { isHandlerKey, NO_MODEL } from '../contracts/handler.js';
import { demandOf, machineCapacity, overcommitReason } from '../deployments/capacity.js';
import { Checkpoint } from '../deployments/checkpoint/checkpoint.js';
import { DEFAULT_DEPLOYMENT } from '../deployments/config/deployment-name.js';
import type { ResolvedDeploymentOptions } from '../deployments/config/deployment-options.js';
import { MAX_REPLICAS } from '../deployments/config/resolve-deployment.js';
import { Deployment } from '../deployments/deployment.js';
import { Deployments } from '../deployments/deployments.js';
import { Endpoints } from '../endpoints/endpoints.js';
import { ModelCatalog } from '../models/model-catalog.js';
import { ModelManager } from '../models/model-manager.js';
import type { ModelReplicas } from '../models/model-replicas.js';
import { readSources } from '../models/sources/model-sources.js';
import { Log } from '../observability/logger.js';
import { EngineMetrics } from '../observability/metrics.js';
import type { Replica } from '../replicas/replica.js';
import { ReplicaMemory, type ReplicaPoolEnvironment } from '../replicas/replica-pool.js';
import { Dispatcher } from '../routing/dispatcher.js';
import type { RoutedModel, RoutedResult } from '../routing/pending-request.js';
import { transferFeeds } from '../tensors/feeds.js';
import type { Feeds, ModelMetadata, Outputs } from '../tensors/tensor.js';
import { EngineCheckpoint } from './engine-checkpoint.js';
import { KeepAlive } from './keep-alive.js';
import { defaultReplicas, type EngineOptions, type ResolvedOptions, resolveOptions } from './options.js';
import { type OwnedRequest, readHandlerRequest, readModelRequest } from './owned-request.js';
import { ReplicaEvents } from './replica-events.js';
import { type RunOptions, readInferenceRequest, readRunOptions, timeLeftMs } from './run-options.js';
import { areReady, type EngineState, type EngineStatus, loadedModels, readStatus, replicasAtWork } from './status.js';
import { type Destination, type EngineDeployment, Targets } from './targets.js';

/** Copies of requests go behind all others. */
const LOWEST_PRIORITY = Number.MIN_SAFE_INTEGER;

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
  /** In onnxruntime, or in the handler. */
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
  /**
   * An endpoint, a model id, which stands for its latest version, `id@version`, `deployment/model`, or a deployment with a
   * handler.
   */
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
 *   path, that cannot be read, and for a checkpoint that is damaged or newer, `REPLICA_FAILED` when no replica of a deployment
 *   starts.
 */
export function createEngine(options?: EngineOptions): Promise<InferenceEngine> {
  return startEngine(options, { clock: systemClock });
}

/** {@link createEngine} with the surroundings named: for tests. */
export async function startEngine(
  options: EngineOptions | undefined,
  environment: ReplicaPoolEnvironment,
): Promise<InferenceEngine> {
  const resolved = readingInput('options', () => resolveOptions(options));
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
  readonly #memory = new ReplicaMemory(2 * MAX_REPLICAS);
  readonly #catalog = new ModelCatalog(() => {
    this.#targets.forget();
    this.#memory.counters.catalogChanged();
  });
  readonly #environment: ReplicaPoolEnvironment;
  readonly #clock: ReplicaPoolEnvironment['clock'];
  readonly #log: Log;
  readonly #metrics: EngineMetrics;
  readonly #keepAlive = new KeepAlive();
  readonly #checkpoint: EngineCheckpoint;
  readonly #deployments: Deployments<Dispatcher<Replica>>;
  readonly #targets: Targets;
  readonly #events: ReplicaEvents;
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
        deployments: () => this.deployments.list(),
        replicas: () => replicasAtWork(this.#deployments.all, this.#catalog),
        loaded: () => loadedModels(this.#deployments.all, this.#catalog),
      },
      { registry: options.registry, modelLabels: options.metrics.modelLabels ?? true },
    );
    const log: Log['write'] = (level, fields, message) => this.#log.write(level, fields, message);
    const during = <T>(work: () => Promise<T>) => this.#keepAlive.during(work);
    this.#deployments = new Deployments({
      ...{ log, during, defaultReplicas, isSaved: checkpoint !== undefined },
      create: (name, resolved) => this.#createDeployment(name, resolved),
      changed: () => this.#targets.forget(),
      deleted: (name) => {
        void this.models.deploymentDeleted(name);
        for (const endpoint of this.endpoints.usersOf(name)) {
          log('warn', { endpoint, deployment: name }, 'an endpoint has a target in a deployment that is deleted');
        }
      },
      save: (deployments) => this.#checkpoint.save({ deployments }),
    });
    this.deployments = this.#deployments;
    this.endpoints = new Endpoints({
      log,
      random: Math.random,
      checkTarget: (target) => void this.#targets.resolve(target, undefined),
      isModel: (name) => this.#catalog.find(name) !== undefined,
      save: (endpoints) => this.#checkpoint.save({ endpoints }),
    });
    this.#targets = new Targets(this.#catalog, this.#deployments, () => this.endpoints.list().map(({ name }) => name));
    const { models } = this.#checkpoint;
    this.models = new ModelManager(
      {
        directory: typeof models === 'string' ? models : undefined,
        repository: options.repository,
        weights: () => this.#defaultOptions.weights,
      },
      {
        ...{ catalog: this.#catalog, hosts: this.#modelHosts(), clock: this.#clock, log, during },
        savePins: (pins) => this.#checkpoint.save({ pins }),
      },
    );
    this.#events = new ReplicaEvents({
      ...{ catalog: this.#catalog, models: this.models, metrics: this.#metrics, log: this.#log },
    });
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
    return areReady(this.#state, this.#deployments.all);
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
    return readStatus(this.#state, this.#deployments.all, this.#catalog);
  }

  /**
   * Takes no new work, finishes what was accepted and ends the threads. Idempotent: the first call's grace counts, and
   * `destroy()` cuts it short.
   *
   * @throws InfermuxError `INVALID_ARGUMENT` for a grace that is none; the engine goes on then.
   */
  async close(options: CloseOptions = {}): Promise<void> {
    const { graceMs = this.#defaultOptions.gracefulShutdownTimeoutMs } = readingInput('close', () =>
      checkOptions('close', options, { graceMs: isMilliseconds({ lowest: 0 }) }),
    );
    this.#closed ??= this.#keepAlive.during(async () => {
      await this.#beginClosing();
      const queues = this.#deployments.all.map(({ queue }) => queue);
      for (const queue of queues) queue.close(closedError('the engine is closing'));
      const idle = Promise.all(queues.map((queue) => queue.untilIdle()));
      const isDrained = await settlesWithin(this.#clock, idle, graceMs);
      const late = closedError(`the engine was closed and ${graceMs} ms of grace passed`);
      if (!isDrained) for (const queue of queues) queue.destroy(late);
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
      const closing = this.#beginClosing();
      const error = closedError('the engine was destroyed');
      for (const { queue } of this.#deployments.all) queue.destroy(error);
      await closing;
      await this.#end({ hurry: true });
    });
    return this.#destroyed;
  }

  /** {@link close}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** As they are now; as they were at the start, once it is deleted. */
  get #defaultOptions(): ResolvedDeploymentOptions {
    return this.#deployments.find(DEFAULT_DEPLOYMENT)?.options ?? this.#options.deployments[DEFAULT_DEPLOYMENT];
  }

  async #begin(): Promise<void> {
    const { models, deployments, endpoints, pins } = this.#checkpoint;
    await this.models.open(typeof models === 'string' ? [] : await readSources(models));
    this.models.restorePins(pins);
    if (this.#catalog.models.length === 0) this.#log.write('warn', { models }, 'no models found');
    await this.#deployments.open(this.#options.declared, deployments);
    await this.#checkpoint.saveModels();
    this.endpoints.restore(endpoints);
    const loaded = this.models.loadInitial();
    if (this.#options.repository.waitForInitialLoad) await loaded;
  }

  #checkRunning(): void {
    if (this.#state !== 'running') throw closedError(`the engine is ${this.#state}`);
  }

  /** What is refused before it is accepted is a rejection too, and nothing is thrown at the caller. */
  #refuse(cause: unknown): Promise<never> {
    const error = unreadableInput('the request', cause);
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
      const answer = this.#submit(this.#resolveFor(target, route.target), request, options, reader);
      answer.catch(() => this.#metrics.endpointError(target));
      return answer;
    } catch (cause) {
      this.#metrics.endpointError(target);
      throw cause;
    }
  }

  /** @throws InfermuxError that names the endpoint too. */
  #resolveFor(endpoint: string, target: string): Destination {
    try {
      return this.#targets.resolve(target, undefined);
    } catch (cause) {
      const { code, message } = toInfermuxError(cause);
      throw new InfermuxError(code, `endpoint ${show(endpoint)}: ${message}`, { cause });
    }
  }

  /** Its answer is dropped, and its errors are nobody's. */
  #submitShadow(endpoint: string, target: string, request: unknown, options: RunOptions): void {
    this.#metrics.shadowRequest(endpoint, target);
    const failed = (cause: unknown) => this.#metrics.shadowError(endpoint, target, toInfermuxError(cause).code);
    try {
      const { outputs, timeoutMs, deadline, shardKey, labels } = options;
      const own = { outputs, timeoutMs, deadline, shardKey, labels, priority: LOWEST_PRIORITY };
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
    const { deployment, model, isHandled } = destination;
    let owned: OwnedRequest;
    try {
      if (isHandled) owned = readHandlerRequest(request, options);
      else {
        this.models.checkMayRun(model);
        owned = readModelRequest(model.id, this.#catalog.metadata(model.key), request as Feeds, options);
      }
    } catch (cause) {
      this.#metrics.deploymentRequests(deployment.name).sum += 1;
      this.#metrics.deploymentError(deployment.name);
      throw cause;
    }
    if (deployment.targetReplicas === 0) deployment.requestArrived();
    const { signal, priority = 0, shardKey, labels } = options;
    // A signal that many requests share is no leak.
    if (signal !== undefined) setMaxListeners(0, signal);
    const leftMs = timeLeftMs(options, deployment.options.defaultTimeoutMs, Date.now);
    const deadline = leftMs === undefined ? undefined : this.#clock.now() + leftMs;
    const { feeds, payload, outputs, checked, transferred, releaseFeeds } = owned;
    return deployment.queue.submit(
      {
        model,
        feeds,
        payload,
        outputs,
        checked,
        priority,
        signal,
        deadline,
        transferred,
        shardKey,
        labels,
        isShadow,
        releaseFeeds,
      },
      reader(destination),
    );
  }

  #createDeployment(name: string, options: ResolvedDeploymentOptions): EngineDeployment {
    const queue = this.#createDispatcher(name, options);
    return new Deployment(name, options, {
      queue,
      memory: this.#memory,
      pool: this.#environment,
      random: Math.random,
      weightStore: this.#options.weightStore,
      observer: {
        running: (replica) => this.models.replicaRunning(replica),
        removed: (replica) => this.models.replicaLeft(replica.id),
        event: (replica, event) => this.#events.handle(queue, replica, event),
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
  }

  #createDispatcher(name: string, options: ResolvedDeploymentOptions): Dispatcher<Replica> {
    const requests = this.#metrics.deploymentRequests(name);
    return new Dispatcher<Replica>(options, Math.random, this.#clock, {
      submitted: () => {
        requests.sum += 1;
      },
      busy: () => this.#keepAlive.hold(),
      idle: () => this.#keepAlive.release(),
      accepted: ({ model, feeds, transferred }) => {
        this.#metrics.requestAccepted(labelOf(model));
        // Not before: a caller that is refused keeps its arrays.
        if (transferred !== undefined) transferFeeds(feeds, transferred);
      },
      given: (replica, requests) => this.#metrics.requestsGiven(replica, requests),
      waited: (queueMs) => this.#metrics.requestWaited(queueMs),
      answered: (model, result) => this.#metrics.requestAnswered(labelOf(model), result),
      failed: ({ code }, isShadow) => {
        this.#metrics.deploymentError(name);
        if (!isShadow) this.#metrics.requestFailed(code);
      },
      called: (model, requests) => this.#metrics.called(labelOf(model), requests),
      batchingSwitchedOff: ({ id: model }, reason) => {
        this.#metrics.batchVerificationFailed(model);
        const message = 'the model gives something else in a batch than alone: batching is switched off for it';
        this.#log.write('warn', { model, reason }, message);
      },
      routerFailed: (fault, error, isFirst) => {
        this.#metrics.routerFailed(name, fault);
        // It may happen with each request.
        if (!isFirst) return;
        this.#log.write('error', { deployment: name, fault, err: error }, 'the router failed');
      },
    });
  }

  #modelHosts(): ModelReplicas {
    return {
      defaultDeployment: () => {
        const { all } = this.#deployments;
        return (
          (all.find(({ isEmpty, state }) => !isEmpty && state !== 'deleting') ?? all[0])?.name ?? DEFAULT_DEPLOYMENT
        );
      },
      wanted: (deployment) => this.#deployments.require(deployment).targetReplicas,
      // What is going is not to be given anything.
      running: () => this.#deployments.all.flatMap(({ state, running }) => (state === 'deleting' ? [] : running)),
      loadRefusal: (model, deployment) => this.#deployments.require(deployment).queue.loadRefusal(model),
      untilUnused: async (key) => {
        await Promise.all(this.#deployments.all.map(({ queue }) => queue.untilModelUnused(key)));
      },
      forget: (key) => {
        for (const { queue } of this.#deployments.all) queue.forgetModel(key);
      },
    };
  }

  #onScaled(deployment: string, from: number, to: number): void {
    if (from > 0) this.#log.write('info', { deployment, from, to }, 'deployment is scaled');
    const reason = overcommitReason(demandOf(this.#deployments.all, to - from), machineCapacity());
    if (reason === undefined) return;
    this.#log.write('warn', { deployment, replicas: to, reason }, 'more replicas than this machine bears');
  }

  /** Resolves when no change is under way any more. */
  async #beginClosing(): Promise<void> {
    const error = closedError('the engine is closing');
    if (this.#state === 'running') {
      this.#state = 'closing';
      this.models.close(error);
      this.endpoints.close(error);
    }
    await this.#deployments.close(error);
  }

  /** Ends all threads; those that overrun are left to end by themselves. */
  #end(how: { hurry: boolean }): Promise<void> {
    const stops = this.#deployments.all.map((deployment) => deployment.stop(how));
    const stopped = Promise.all([...stops, this.#deployments.untilGone()]);
    this.#ended ??= this.#finish(stopped);
    return this.#ended;
  }

  async #finish(stopped: Promise<unknown>): Promise<void> {
    const grace = this.#deployments.all.map(({ options }) => options.gracefulShutdownTimeoutMs);
    const longestMs = Math.max(this.#defaultOptions.gracefulShutdownTimeoutMs, ...grace);
    if (!(await settlesWithin(this.#clock, stopped, longestMs))) {
      this.#log.write(
        'warn',
        {},
        'replicas are still in a native call and are left behind; their threads end after it',
      );
    }
    await this.#checkpoint.untilWritten();
    this.#metrics.close();
    this.#state = 'closed';
  }
}

/** Says how to make of a result what the caller gets. */
type Reader<T> = (destination: Destination) => (result: RoutedResult) => T;

const outputsOf = ({ outputs }: RoutedResult): Outputs => outputs;
const toOutputs: Reader<Outputs> = () => outputsOf;
const toNothing: Reader<void> = () => () => undefined;

const toResult: Reader<InferenceResult> =
  ({ deployment, model, isHandled }) =>
  ({ outputs, replica, batchSize, queueMs, loadMs, runMs, totalMs }) => {
    const version = isHandled ? 1 : model.version;
    const timings = { queueMs, loadMs, runMs, totalMs };
    return { outputs, model: model.id, version, deployment: deployment.name, replica, batchSize, timings };
  };

/** A handler's own models are counted together: there may be any number of them. */
function labelOf({ id, key }: RoutedModel): string {
  return isHandlerKey(key) ? NO_MODEL : id;
}

function closedError(message: string): InfermuxError {
  return new InfermuxError('ENGINE_CLOSED', message);
}
