import type { Registry } from 'prom-client';
import { check, checkOptions, isFunction, isMilliseconds, isOneOf } from '../common/checks.js';
import { readingInput, unreadableInput } from '../common/errors.js';
import type { ModelRequest, ModelRunOptions, RunOptions } from '../contracts/run-options.js';
import type { Checkpoint } from '../deployments/checkpoint/checkpoint.js';
import type { Deployments } from '../deployments/deployments.js';
import type { Endpoints } from '../endpoints/endpoints.js';
import type { ModelManager } from '../models/model-manager.js';
import { type EngineEventName, type EngineEvents, EVENT_NAMES } from '../observability/engine-events.js';
import type { ReplicaPoolEnvironment } from '../replicas/replica-pool.js';
import type { RequestStream } from '../routing/pending-request.js';
import { allocateTensor, type NumericType } from '../tensors/memory/allocated-tensors.js';
import type { AnyModels, FeedsOf, ModelTypes, OutputNameOf, OutputsOf, TargetOf } from '../tensors/model-types.js';
import type { TensorOf } from '../tensors/tensor.js';
import type { CloseOptions } from './engine-options.js';
import { EngineShutdown } from './engine-shutdown.js';
import type { ResolvedOptions } from './options.js';
import { type AnswerStream, HandlerStream } from './requests/handler-stream.js';
import { type InferenceResult, toOutputs, toResult } from './requests/inference-result.js';
import { cloneRequest } from './requests/owned-request.js';
import { type InferenceRequest, readInferenceRequest, readRunOptions } from './requests/run-options.js';
import { areReady, type EngineStatus, readStatus } from './status.js';
import type { ApplyOptions, ApplyReport, WantedState } from './wanted/wanted-state.js';
import { WantedStates } from './wanted/wanted-states.js';
import { EngineParts } from './wiring/engine-parts.js';

/**
 * Many models on a pool of worker threads. Created by `createEngine`. Close it when you no longer need it.
 *
 * @typeParam Models the types that `infermux types` writes. A wrong name or type is then a compile error.
 */
export class InferenceEngine<Models extends ModelTypes<Models> = AnyModels> {
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
   * Distributes requests over targets.
   *
   * @readonly
   */
  readonly endpoints: Endpoints;
  readonly #parts: EngineParts;
  readonly #shutdown: EngineShutdown;
  readonly #states: WantedStates;

  private constructor(
    options: ResolvedOptions,
    checkpoint: Checkpoint | undefined,
    environment: ReplicaPoolEnvironment,
  ) {
    const parts = new EngineParts(options, checkpoint, environment);
    this.#options = options;
    this.#parts = parts;
    this.#shutdown = new EngineShutdown(parts, environment.clock);
    this.#states = new WantedStates(parts);
    this.models = parts.models;
    this.deployments = parts.deployments;
    this.endpoints = parts.endpoints;
  }

  /** @internal */
  static async start<Models extends ModelTypes<Models>>(
    options: ResolvedOptions,
    checkpoint: Checkpoint | undefined,
    environment: ReplicaPoolEnvironment,
  ): Promise<InferenceEngine<Models>> {
    const engine = new InferenceEngine<Models>(options, checkpoint, environment);
    try {
      await engine.#parts.keepAlive.during(() => engine.#begin());
      return engine;
    } catch (error) {
      await engine.destroy();
      throw error;
    }
  }

  /** The Prometheus metrics: `await engine.metrics.metrics()` is the text to serve. */
  get metrics(): Registry {
    return this.#parts.metrics.registry;
  }

  /**
   * Whether requests are answered: each deployment has a running replica. Deployments with 0 replicas, or scaled to 0
   * until the first request, are ignored. `engine.deployments.get(name).ready` is about one deployment.
   */
  get ready(): boolean {
    return areReady(this.#shutdown.state, this.#parts.deployments.all);
  }

  /**
   * Sends a request to a deployment's handler and returns the handler's answer. In TypeScript, pass its type as
   * `Result`.
   *
   * @param target a deployment with a handler, `deployment/model` for one of its models, or an endpoint.
   * @param request any value that can be cloned; you may change it as soon as the call has returned its promise. A view
   *   on a part of an ArrayBuffer is sent without the rest of the buffer.
   */
  run<Result = never>(
    target: string,
    request: [Result] extends [never] ? never : unknown,
    runOptions?: RunOptions,
  ): Promise<NoInfer<Result>>;
  /**
   * Runs a model and returns its outputs.
   *
   * @param target an endpoint, a model id (its latest version), `id@version`, or `deployment/model`.
   * @param feeds every input by name; you may change the arrays as soon as the call has returned its promise.
   * @throws InfermuxError by rejection; see `ERROR_CODES`.
   */
  run<Target extends TargetOf<Models>, const Name extends OutputNameOf<Models, Target> = OutputNameOf<Models, Target>>(
    target: Target,
    feeds: FeedsOf<Models, Target>,
    runOptions?: ModelRunOptions<Name>,
  ): Promise<OutputsOf<Models, Target, Name>>;
  run(target: string, request: unknown, runOptions?: RunOptions): Promise<unknown> {
    return this.#submit(target, () => this.#parts.submit(target, request, readRunOptions(runOptions), toOutputs));
  }

  /**
   * Like {@link run} for a handler, but also returns details such as the replica and the times. Pass the request as
   * `feeds`; the answer is in `outputs`.
   */
  infer<Result = never>(
    request: [Result] extends [never] ? never : InferenceRequest<unknown>,
  ): Promise<InferenceResult<NoInfer<Result>>>;
  /** Like {@link run}, but also returns details such as the replica and the times. */
  infer<
    Target extends TargetOf<Models>,
    const Name extends OutputNameOf<Models, Target> = OutputNameOf<Models, Target>,
  >(request: ModelRequest<Models, Target, Name>): Promise<InferenceResult<OutputsOf<Models, Target, Name>>>;
  infer(request: InferenceRequest<unknown>): Promise<InferenceResult<unknown>> {
    let options: InferenceRequest<unknown>;
    try {
      options = readInferenceRequest(request);
    } catch (cause) {
      return this.#refuse(undefined, cause);
    }
    return this.#submit(options.target, () => this.#parts.submit(options.target, options.feeds, options, toResult));
  }

  /**
   * Sends a request to a deployment whose handler answers with a stream: an async iterable or a generator.
   *
   * The request is copied at once, and sent when the first item is requested. It is ongoing until the stream ends, and
   * its timeout is for the whole stream. The handler runs at most 64 items ahead of the caller. Ending the iteration
   * early, by `break` or `return()`, ends the handler's generator; so does the signal.
   *
   * @param target a deployment with a handler, `deployment/model` for one of its models, or an endpoint.
   * @returns the items, which can be iterated once. If the request fails, the error follows the items before it:
   *   `REPLICA_FAILED` if the replica died after the first item, `FAILED_PRECONDITION` if the answer is not a stream.
   */
  stream<Item = unknown>(target: string, request: unknown, runOptions?: RunOptions): AnswerStream<Item> {
    let begin: (stream: RequestStream, signal: AbortSignal) => Promise<unknown>;
    let own: AbortSignal | undefined;
    try {
      this.#shutdown.checkRunning();
      const value = cloneRequest(request);
      const options = readRunOptions(runOptions);
      own = options.signal;
      begin = (stream, signal) =>
        this.#submit(target, () => this.#parts.stream(target, value, { ...options, signal }, stream));
    } catch (cause) {
      begin = () => this.#refuse(target, cause);
    }
    return new HandlerStream<Item>(begin, own);
  }

  /**
   * Returns a tensor to fill in place, for example by a decoder or from a socket, and then to pass to `run`. Large ones
   * are in memory that replicas can read, so they are not copied on this thread. The elements are not cleared: fill all
   * of them.
   *
   * You can use it until `run` or `infer` accepts it, and pass it once. After that the engine uses its memory for other
   * requests: do not read or write it any more.
   *
   * @param dims the shape.
   * @throws InfermuxError `INVALID_ARGUMENT` for a type without numbers, or for dims that need more memory than there
   *   is; `ENGINE_CLOSED`.
   */
  allocate<T extends NumericType>(type: T, dims: readonly number[]): TensorOf<T> {
    this.#shutdown.checkRunning();
    return readingInput('allocate', () => allocateTensor(this.#parts.slabs, type, dims));
  }

  /**
   * Makes deployments, endpoints and registered models equal to the wanted state: creates what is missing, changes what
   * differs, and deletes what is not wanted. Everything is checked before anything changes. Then the changes are made
   * one by one; the first that fails ends the call.
   *
   * @returns what changed, or with `dryRun` what would change.
   * @throws InfermuxError as `models.register`, `deployments.apply`, `endpoints.set` and others; `ENGINE_CLOSED`.
   */
  async apply(wanted: WantedState, options: ApplyOptions = {}): Promise<ApplyReport> {
    this.#shutdown.checkRunning();
    return this.#parts.keepAlive.during(() => this.#states.apply(wanted, options));
  }

  /**
   * Calls the listener for each event of this name: states of replicas, loads, evictions and failures of models, goals,
   * scaling and more. It is called after the current code, in the order of the events. An error that a listener throws
   * is logged.
   *
   * @returns ends it.
   * @throws InfermuxError `INVALID_ARGUMENT`.
   */
  on<Name extends EngineEventName>(event: Name, listener: (fact: EngineEvents[Name]) => unknown): () => void {
    check('the event', event, isOneOf(EVENT_NAMES));
    check('the listener', listener, isFunction);
    return this.#parts.events.on(event, listener);
  }

  /** A snapshot of deployments, replicas and models. */
  status(): EngineStatus {
    return readStatus(
      this.#shutdown.state,
      this.#parts.deployments.all,
      this.#parts.catalog,
      this.#options.weightStore,
    );
  }

  /**
   * Accepts no new requests, finishes the accepted ones and ends the threads. Idempotent: the `graceMs` of the first
   * call applies, and `destroy()` ends it early.
   *
   * @throws InfermuxError `INVALID_ARGUMENT` for an invalid `graceMs`; the engine then keeps running.
   */
  async close(options: CloseOptions = {}): Promise<void> {
    const { graceMs = this.#parts.defaultOptions.gracefulShutdownTimeoutMs } = readingInput('close', () =>
      checkOptions('close', options, { graceMs: isMilliseconds({ lowest: 0 }) }),
    );
    return this.#shutdown.close(graceMs);
  }

  /**
   * Rejects all requests at once with `ENGINE_CLOSED`, and ends each thread as soon as it is outside native calls.
   * Resolves when all threads have ended, or after `gracefulShutdownTimeoutMs`; a thread that is still in a call ends
   * after the call. Idempotent.
   */
  destroy(): Promise<void> {
    return this.#shutdown.destroy();
  }

  /** {@link close}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #begin(): Promise<void> {
    const { catalog, checkpoint, log, managed } = this.#parts;
    const { models, registered, deployments, endpoints, pins } = checkpoint;
    await this.#warnOfOthers();
    await managed.open(typeof models === 'string' ? {} : models, registered);
    managed.pinned.restore(pins);
    if (catalog.models.length === 0 && this.#options.finder === undefined)
      log.write('warn', { models }, 'no models found');
    await this.#parts.deployments.open(this.#options.declared, deployments);
    await checkpoint.saveModels();
    this.endpoints.restore(endpoints);
    const loaded = managed.loadInitial();
    if (this.#options.repository.waitForInitialLoad) await loaded;
  }

  /** Warns of files that others may change. What is certain danger has been refused before. */
  async #warnOfOthers(): Promise<void> {
    const { checkpoint, others, log } = this.#parts;
    const { models, doubt: reason } = checkpoint;
    if (reason !== undefined) log.write('warn', { reason }, 'the checkpoint may be changed by others');
    if (typeof models === 'string') await others.look('the directory of models', models);
    await others.look('the weight store', this.#options.weightStore.directory);
  }

  #submit<T>(target: unknown, submit: () => Promise<T>): Promise<T> {
    try {
      this.#shutdown.checkRunning();
      return submit();
    } catch (cause) {
      return this.#refuse(target, cause);
    }
  }

  /** Makes a rejection of a refusal too, so that `run` and `infer` never throw. */
  #refuse(target: unknown, cause: unknown): Promise<never> {
    const error = unreadableInput('the request', cause);
    this.#parts.requestFailed(error, target);
    return Promise.reject(error);
  }
}
