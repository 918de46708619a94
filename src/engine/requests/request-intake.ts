import type { Clock } from '../../common/clock.js';
import { InfermuxError, show, toInfermuxError } from '../../common/errors.js';
import { NO_MODEL } from '../../contracts/handler.js';
import type { RunOptions } from '../../contracts/run-options.js';
import type { Endpoints, Route } from '../../endpoints/endpoints.js';
import type { ManagedModels } from '../../models/managed-models.js';
import type { ModelCatalog } from '../../models/model-catalog.js';
import type { EngineMetrics } from '../../observability/engine-metrics.js';
import type { InferTrace } from '../../observability/traces/operations.js';
import { isSought, NESTED_PRIORITY, type RequestStream } from '../../routing/pending-request.js';
import type { Slabs } from '../../tensors/memory/slabs.js';
import type { Feeds } from '../../tensors/tensor.js';
import { labelOf } from '../wiring/dispatcher-observer.js';
import type { Outlook } from './capacity-waits.js';
import { type ResultReader, toNothing } from './inference-result.js';
import { type OwnedRequest, readHandlerRequest, readModelRequest } from './owned-request.js';
import { sentTerms } from './request-terms.js';
import { timeLeftMs } from './run-options.js';
import type { Destination, Targets } from './targets.js';

/** Shadow requests go behind all others, whatever priority a caller gives those: nobody waits for them. */
const LOWEST_PRIORITY = Number.NEGATIVE_INFINITY;

/** The parts of the engine that a request passes before it waits for a replica. */
export interface RequestIntakeParts {
  readonly endpoints: Endpoints;
  readonly targets: Targets;
  readonly managed: ManagedModels;
  readonly catalog: ModelCatalog;
  readonly metrics: EngineMetrics;
  readonly slabs: Slabs;
}

/** What a request is part of. */
export interface RequestScope {
  /** The targets of the requests within which it is made, the outermost first. */
  readonly path: readonly string[];
  /** Clock time by which the request within which it is made must be answered. */
  readonly deadline: number | undefined;
  /** Takes the items of the answer. */
  readonly stream: RequestStream | undefined;
  /** Whether nobody reads the answer. */
  readonly isShadow: boolean;
  /** What is told of the request; undefined if nobody wants to hear of it. */
  readonly trace: InferTrace | undefined;
}

/** The scope of a request that is part of no other one. */
export const ALONE: RequestScope = {
  path: [],
  deadline: undefined,
  stream: undefined,
  isShadow: false,
  trace: undefined,
};

/** Takes requests in: resolves the target, copies or takes over the feeds, and hands the request to a dispatcher. */
export class RequestIntake {
  readonly #parts: RequestIntakeParts;
  readonly #clock: Clock;

  constructor(parts: RequestIntakeParts, clock: Clock) {
    this.#parts = parts;
    this.#clock = clock;
  }

  /**
   * @param reader makes the value of the promise from the answer.
   * @param within what the request is part of, if it is.
   * @param route what its endpoint has chosen for it, if it has chosen already.
   * @throws InfermuxError for an unknown target, or a request that does not fit it.
   */
  submit<T>(
    target: string,
    request: unknown,
    options: RunOptions,
    reader: ResultReader<T>,
    within: RequestScope,
    route: Route | undefined = this.#parts.endpoints.route(target, options.shardKey),
  ): Promise<T> {
    const { targets, metrics } = this.#parts;
    if (route === undefined) {
      return this.#submitTo(targets.resolve(target, options.deployment), request, options, reader, within);
    }
    metrics.endpointRequest(target);
    try {
      if (options.deployment !== undefined) {
        const message = `${show(target)} is an endpoint, whose targets name their deployments: leave out runOptions.deployment`;
        throw new InfermuxError('INVALID_ARGUMENT', message);
      }
      // Before the request itself, which may take over the caller's arrays.
      for (const shadow of route.shadows) this.#submitShadow(target, shadow, request, options, within);
      const answer = this.#submitTo(this.#resolveFor(target, route.target), request, options, reader, within);
      answer.catch(() => metrics.endpointError(target));
      return answer;
    } catch (cause) {
      metrics.endpointError(target);
      throw cause;
    }
  }

  /** How a request stands that is not submitted yet. */
  outlookOf(target: string, { shardKey, deployment: name }: RunOptions): Outlook {
    const { endpoints, targets } = this.#parts;
    const route = endpoints.route(target, shardKey);
    const [meant, within] = route === undefined ? [target, name] : [route.target, undefined];
    try {
      const { deployment, model, isHandled } = targets.find(meant, within);
      const { defaultTimeoutMs } = deployment.options;
      const error = targets.refusalOf(deployment, model) ?? deployment.refusal;
      const refusal = error && route ? inEndpoint(target, error) : error;
      // What is not there yet may turn out to be for a handler.
      if (isSought(model)) return { route, refusal, sought: model.id, isHandled: undefined, defaultTimeoutMs };
      return { route, refusal, sought: undefined, isHandled, defaultTimeoutMs };
    } catch (cause) {
      const error = toInfermuxError(cause);
      const refusal = route === undefined ? error : inEndpoint(target, error);
      return { route, refusal, sought: undefined, isHandled: undefined, defaultTimeoutMs: -1 };
    }
  }

  /** @throws InfermuxError that also names the endpoint. */
  #resolveFor(endpoint: string, target: string): Destination {
    try {
      return this.#parts.targets.resolve(target, undefined);
    } catch (cause) {
      throw inEndpoint(endpoint, toInfermuxError(cause));
    }
  }

  /** Sends a copy of the request to a shadow target. The answer is dropped; an error is only counted. */
  #submitShadow(endpoint: string, target: string, request: unknown, options: RunOptions, within: RequestScope): void {
    const { metrics, targets } = this.#parts;
    metrics.shadowRequest(endpoint, target);
    const failed = (cause: unknown) => metrics.shadowError(endpoint, target, toInfermuxError(cause).code);
    try {
      const { outputs, timeoutMs, deadline, shardKey, labels, hints, requestId, traceContext, method } = options;
      // A stream may have no end but that its reader leaves.
      const signal = within.stream === undefined ? undefined : options.signal;
      const terms = { shardKey, labels, hints, requestId, traceContext, method };
      const own = { ...terms, outputs, timeoutMs, deadline, signal, priority: LOWEST_PRIORITY };
      const { path, deadline: latest } = within;
      const scope = { path, deadline: latest, stream: undefined, isShadow: true, trace: undefined };
      this.#submitTo(targets.resolve(target, undefined), request, own, toNothing, scope).catch(failed);
    } catch (cause) {
      failed(cause);
    }
  }

  /** Runs entirely in the caller's event-loop turn, so that the engine owns the feeds before the caller goes on. */
  #submitTo<T>(
    destination: Destination,
    request: unknown,
    options: RunOptions,
    reader: ResultReader<T>,
    scope: RequestScope,
  ): Promise<T> {
    const { deployment, model } = destination;
    const leftMs = timeLeftMs(options, deployment.options.defaultTimeoutMs, Date.now);
    const ownDeadline = leftMs === undefined ? undefined : this.#clock.now() + leftMs;
    const deadline = earlier(ownDeadline, scope.deadline);
    const { isShadow } = scope;
    const { feeds, payload, outputs, checked, takeOver, apartBytes, releaseFeeds } = this.#own(
      destination,
      request,
      options,
      scope,
      deadline,
    );
    // A model that is not there wakes nobody.
    if (deployment.targetReplicas === 0 && !isSought(model)) deployment.requestArrived();
    const { signal, priority = 0, shardKey, labels, hints } = options;
    return deployment.queue.submit(
      {
        model,
        feeds,
        payload,
        outputs,
        checked,
        priority: priority === LOWEST_PRIORITY || scope.path.length === 0 ? priority : NESTED_PRIORITY,
        signal,
        deadline,
        takeOver,
        apartBytes,
        shardKey,
        labels,
        hints,
        isShadow,
        trace: scope.trace,
        releaseFeeds,
      },
      reader(destination),
    );
  }

  #own(
    { deployment, model, isHandled }: Destination,
    request: unknown,
    options: RunOptions,
    scope: RequestScope,
    deadline: number | undefined,
  ): OwnedRequest {
    const { managed, catalog, metrics, slabs } = this.#parts;
    try {
      if (isHandled) {
        const target = model.key === NO_MODEL ? deployment.name : `${deployment.name}/${model.id}`;
        const { stream, isShadow } = scope;
        const leftMs = deadline === undefined ? undefined : deadline - this.#clock.now();
        const terms = sentTerms(options, leftMs === undefined ? undefined : Date.now() + leftMs);
        return readHandlerRequest(request, options, [...scope.path, target], { deadline, stream, isShadow, terms });
      }
      if (scope.stream !== undefined) throw noStream(deployment.name);
      managed.checkMayRun(model);
      if ('isFound' in model && model.isFound === true) managed.search.used(model);
      const metadata = catalog.metadata(model.key);
      return readModelRequest(model.id, metadata, request as Feeds, options, slabs, scope.isShadow);
    } catch (cause) {
      metrics.deploymentRequests(deployment.name).sum += 1;
      metrics.deploymentError(deployment.name);
      metrics.modelRequestFailed(labelOf(model));
      deployment.queue.countFailed(model.key);
      throw cause;
    }
  }
}

function inEndpoint(endpoint: string, cause: InfermuxError): InfermuxError {
  const { code, message, retryable, retryAfterMs } = cause;
  return new InfermuxError(code, `endpoint ${show(endpoint)}: ${message}`, { cause, retryable, retryAfterMs });
}

function noStream(deployment: string): InfermuxError {
  const message = `deployment ${show(deployment)} has no handler, and only handlers give streams: call engine.run`;
  return new InfermuxError('INVALID_ARGUMENT', message);
}

function earlier(left: number | undefined, right: number | undefined): number | undefined {
  if (left === undefined || right === undefined) return left ?? right;
  return Math.min(left, right);
}
