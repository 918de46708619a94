import type { Registry } from 'prom-client';
import type { ErrorCode } from '../common/errors.js';
import type { UnloadReason } from '../contracts/eviction.js';
import { type MetricsSource, registerGauges } from './gauges.js';
import { MetricsRegistration, SECONDS } from './metrics-registration.js';
import type { TallyLine } from './tallies.js';

/** 0.1 s to a day, in seconds. */
const AGES = [0.1, 1, 5, 15, 60, 300, 900, 3_600, 14_400, 86_400];
const SIZES = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024];

/** The engine's Prometheus metrics: prefix `infermux_`, times in seconds, counters end in `_total`. */
export class EngineMetrics {
  readonly #metrics: MetricsRegistration;
  readonly #modelLabels: boolean;
  readonly #requests;
  readonly #errors;
  readonly #deploymentRequests;
  readonly #deploymentErrors;
  readonly #endpointRequests;
  readonly #endpointErrors;
  readonly #shadowRequests;
  readonly #shadowErrors;
  readonly #queueWait;
  readonly #runDuration;
  readonly #requestDuration;
  readonly #getModel;
  readonly #loads;
  readonly #loadExceptions;
  readonly #unloads;
  readonly #loadDuration;
  readonly #unloadDuration;
  readonly #ageAtEviction;
  readonly #restarts;
  readonly #batchSize;
  readonly #batches;
  readonly #verificationFailures;
  readonly #routerErrors;

  /**
   * @param registry the caller's registry; when undefined the metrics get one of their own.
   * @throws InfermuxError `FAILED_PRECONDITION` when the registry has metrics of another engine.
   */
  constructor(
    source: MetricsSource,
    { registry, modelLabels }: { registry: Registry | undefined; modelLabels: boolean },
  ) {
    const metrics = new MetricsRegistration(registry);
    this.#metrics = metrics;
    this.#modelLabels = modelLabels;
    const model = modelLabels ? ['model'] : [];

    this.#requests = metrics.tally('router_requests_total', 'Requests accepted for routing.', model);
    this.#errors = metrics.counter('request_errors_total', 'Requests answered with an error, by its code.', ['code']);
    const deployment = ['deployment'];
    this.#deploymentRequests = metrics.tally('deployment_requests_total', 'Requests, copies included.', deployment);
    this.#deploymentErrors = metrics.tally(
      'deployment_errors_total',
      'Requests that were refused or answered with an error, copies included.',
      deployment,
    );
    const endpoint = ['endpoint'];
    this.#endpointRequests = metrics.tally('endpoint_requests_total', 'Requests for endpoints.', endpoint);
    this.#endpointErrors = metrics.tally(
      'endpoint_errors_total',
      'Requests for endpoints answered with an error.',
      endpoint,
    );
    const shadow = ['endpoint', 'target'];
    this.#shadowRequests = metrics.counter('shadow_requests_total', 'Copies of requests for shadow targets.', shadow);
    this.#shadowErrors = metrics.counter('shadow_errors_total', 'Copies without an answer, by error code.', [
      ...shadow,
      'code',
    ]);
    this.#queueWait = metrics.tallyHistogram('queue_wait_seconds', 'From acceptance to a replica.', [], SECONDS);
    this.#runDuration = metrics.tallyHistogram(
      'run_duration_seconds',
      'The onnxruntime call of a request.',
      model,
      SECONDS,
    );
    this.#requestDuration = metrics.tallyHistogram(
      'request_duration_seconds',
      'From acceptance to the answer.',
      model,
      SECONDS,
    );
    this.#batchSize = metrics.tallyHistogram('batch_size', 'Requests that shared an onnxruntime call.', model, SIZES);
    this.#batches = metrics.tally('batches_total', 'Calls that more than one request shared.', model);
    this.#verificationFailures = metrics.counter(
      'batch_verification_failures_total',
      'Models that gave other results in a batch than alone.',
      model,
    );
    this.#routerErrors = metrics.counter('router_errors_total', 'Faults of the router, by kind.', [
      'deployment',
      'kind',
    ]);
    this.#getModel = metrics.tally('get_model_requests_total', "Requests that asked a replica's session cache.", [
      'replica',
    ]);
    this.#loads = metrics.counter('model_loads_total', 'Sessions loaded.', ['replica', ...model]);
    this.#loadExceptions = metrics.counter('load_model_exceptions_total', 'Loads that failed.', [
      'replica',
      'type',
      'code',
    ]);
    this.#unloads = metrics.counter('model_unloads_total', 'Sessions released, by reason.', ['replica', 'reason']);
    this.#loadDuration = metrics.histogram('load_model_duration_seconds', 'Loads of sessions.', ['type', ...model]);
    this.#ageAtEviction = metrics.histogram(
      'model_age_at_eviction_seconds',
      'Time since an evicted session was last used; short ages mean thrashing.',
      [],
      AGES,
    );
    this.#unloadDuration = metrics.histogram('model_unload_duration_seconds', 'Releases of sessions.', []);
    this.#restarts = metrics.counter('replica_restarts_total', 'Replicas started again after a failure.', ['replica']);
    registerGauges(metrics, source, modelLabels);
  }

  get registry(): Registry {
    return this.#metrics.registry;
  }

  requestAccepted(model: string): void {
    this.#requests.add(model, 1);
  }

  /** Counts every request for the deployment, refused ones included. */
  deploymentRequests(deployment: string): TallyLine {
    return this.#deploymentRequests.line(deployment);
  }

  /** A request was refused, or answered with an error. */
  deploymentError(deployment: string): void {
    this.#deploymentErrors.add(deployment, 1);
  }

  endpointRequest(endpoint: string): void {
    this.#endpointRequests.add(endpoint, 1);
  }

  endpointError(endpoint: string): void {
    this.#endpointErrors.add(endpoint, 1);
  }

  /** A copy of a request was sent to the target. */
  shadowRequest(endpoint: string, target: string): void {
    this.#shadowRequests.inc({ endpoint, target });
  }

  shadowError(endpoint: string, target: string, code: ErrorCode): void {
    this.#shadowErrors.inc({ endpoint, target, code });
  }

  requestsGiven(replica: string, requests: number): void {
    this.#getModel.add(replica, requests);
  }

  requestWaited(queueMs: number): void {
    this.#queueWait.observe('', queueMs / 1_000);
  }

  /** A request was answered. Times in milliseconds. */
  requestAnswered(model: string, { runMs, totalMs }: { readonly runMs: number; readonly totalMs: number }): void {
    this.#runDuration.observe(model, runMs / 1_000);
    this.#requestDuration.observe(model, totalMs / 1_000);
  }

  /** One onnxruntime call ran for `requests` requests. */
  called(model: string, requests: number): void {
    this.#batchSize.observe(model, requests);
    if (requests > 1) this.#batches.add(model, 1);
  }

  batchVerificationFailed(model: string): void {
    this.#verificationFailures.inc(this.#label(model));
  }

  requestFailed(code: ErrorCode): void {
    this.#errors.inc({ code });
  }

  /** @param type the model's format. */
  modelLoaded(replica: string, model: string, type: string, loadMs: number): void {
    this.#loads.inc({ replica, ...this.#label(model) });
    this.#loadDuration.observe({ type, ...this.#label(model) }, loadMs / 1_000);
  }

  modelLoadFailed(replica: string, type: string, code: ErrorCode): void {
    this.#loadExceptions.inc({ replica, type, code });
  }

  /** @param idleMs milliseconds since the session was last used. */
  modelUnloaded(replica: string, reason: UnloadReason, unloadMs: number, idleMs: number): void {
    this.#unloads.inc({ replica, reason });
    this.#unloadDuration.observe(unloadMs / 1_000);
    if (reason === 'evicted') this.#ageAtEviction.observe(idleMs / 1_000);
  }

  routerFailed(deployment: string, kind: string): void {
    this.#routerErrors.inc({ deployment, kind });
  }

  replicaRestarted(replica: string): void {
    this.#restarts.inc({ replica });
  }

  /** Removes the metrics from the caller's registry. The engine's own registry stays readable. */
  close(): void {
    this.#metrics.close();
  }

  #label(model: string): Record<string, string> {
    return this.#modelLabels ? { model } : {};
  }
}
