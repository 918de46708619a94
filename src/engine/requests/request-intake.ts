import type { Clock } from '../../common/clock.js';
import { InfermuxError, show, toInfermuxError } from '../../common/errors.js';
import type { Endpoints } from '../../endpoints/endpoints.js';
import type { ModelCatalog } from '../../models/model-catalog.js';
import type { ModelManager } from '../../models/model-manager.js';
import type { EngineMetrics } from '../../observability/engine-metrics.js';
import type { Slabs } from '../../tensors/memory/slabs.js';
import type { Feeds } from '../../tensors/tensor.js';
import { type ResultReader, toNothing } from './inference-result.js';
import { type OwnedRequest, readHandlerRequest, readModelRequest } from './owned-request.js';
import { type RunOptions, timeLeftMs } from './run-options.js';
import type { Destination, Targets } from './targets.js';

/** Shadow requests go behind all others, whatever priority a caller gives those. */
const LOWEST_PRIORITY = Number.NEGATIVE_INFINITY;

/** The parts of the engine that a request passes before it waits for a replica. */
export interface RequestIntakeParts {
  readonly endpoints: Endpoints;
  readonly targets: Targets;
  readonly models: ModelManager;
  readonly catalog: ModelCatalog;
  readonly metrics: EngineMetrics;
  readonly slabs: Slabs;
}

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
   * @throws InfermuxError for an unknown target, or a request that does not fit it.
   */
  submit<T>(target: string, request: unknown, options: RunOptions, reader: ResultReader<T>): Promise<T> {
    const { endpoints, targets, metrics } = this.#parts;
    const route = endpoints.route(target, options.shardKey);
    if (route === undefined) {
      return this.#submitTo(targets.resolve(target, options.deployment), request, options, reader);
    }
    metrics.endpointRequest(target);
    try {
      if (options.deployment !== undefined) {
        const message = `${show(target)} is an endpoint, whose targets name their deployments: leave out runOptions.deployment`;
        throw new InfermuxError('INVALID_ARGUMENT', message);
      }
      // Before the request itself, which may take over the caller's arrays.
      for (const shadow of route.shadows) this.#submitShadow(target, shadow, request, options);
      const answer = this.#submitTo(this.#resolveFor(target, route.target), request, options, reader);
      answer.catch(() => metrics.endpointError(target));
      return answer;
    } catch (cause) {
      metrics.endpointError(target);
      throw cause;
    }
  }

  /** @throws InfermuxError that also names the endpoint. */
  #resolveFor(endpoint: string, target: string): Destination {
    try {
      return this.#parts.targets.resolve(target, undefined);
    } catch (cause) {
      const { code, message } = toInfermuxError(cause);
      throw new InfermuxError(code, `endpoint ${show(endpoint)}: ${message}`, { cause });
    }
  }

  /** Sends a copy of the request to a shadow target. The answer is dropped; an error is only counted. */
  #submitShadow(endpoint: string, target: string, request: unknown, options: RunOptions): void {
    const { metrics, targets } = this.#parts;
    metrics.shadowRequest(endpoint, target);
    const failed = (cause: unknown) => metrics.shadowError(endpoint, target, toInfermuxError(cause).code);
    try {
      const { outputs, timeoutMs, deadline, shardKey, labels } = options;
      const own = { outputs, timeoutMs, deadline, shardKey, labels, priority: LOWEST_PRIORITY };
      this.#submitTo(targets.resolve(target, undefined), request, own, toNothing, true).catch(failed);
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
    isShadow = false,
  ): Promise<T> {
    const { deployment, model } = destination;
    const { feeds, payload, outputs, checked, takeOver, apartBytes, releaseFeeds } = this.#own(
      destination,
      request,
      options,
      isShadow,
    );
    if (deployment.targetReplicas === 0) deployment.requestArrived();
    const { signal, priority = 0, shardKey, labels } = options;
    const leftMs = timeLeftMs(options, deployment.options.defaultTimeoutMs, Date.now);
    const deadline = leftMs === undefined ? undefined : this.#clock.now() + leftMs;
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
        takeOver,
        apartBytes,
        shardKey,
        labels,
        isShadow,
        releaseFeeds,
      },
      reader(destination),
    );
  }

  #own(
    { deployment, model, isHandled }: Destination,
    request: unknown,
    options: RunOptions,
    isShadow: boolean,
  ): OwnedRequest {
    const { models, catalog, metrics, slabs } = this.#parts;
    try {
      if (isHandled) return readHandlerRequest(request, options);
      models.checkMayRun(model);
      return readModelRequest(model.id, catalog.metadata(model.key), request as Feeds, options, slabs, isShadow);
    } catch (cause) {
      metrics.deploymentRequests(deployment.name).sum += 1;
      metrics.deploymentError(deployment.name);
      throw cause;
    }
  }
}
