import type { Registry } from 'prom-client';
import type { Clock } from '../common/clock.js';
import { ERROR_CODES, type ErrorCode } from '../common/errors.js';
import type { UnloadReason } from '../contracts/eviction.js';
import { registerGauges, registerModelGauge } from './gauges.js';
import type { MetricsSource } from './metrics-source.js';
import { presenceIn } from './presence.js';
import { MetricsRegistration } from './registry/metrics-registration.js';
import { ScrapeTurns } from './registry/scrape-turns.js';
import { SearchMetrics } from './search-metrics.js';
import { BusiestModels } from './series/busiest-models.js';
import { type Count, OTHER } from './series/lines.js';
import { SECONDS } from './series/model-series.js';
import { SessionCensus } from './session-census.js';

/** 0.1 s to a day, in seconds. */
const AGES = [0.1, 1, 5, 15, 60, 300, 900, 3_600, 14_400, 86_400];
const SIZES = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024];

export interface EngineMetricsOptions {
  /** The caller's registry; when undefined the metrics get one of their own. */
  readonly registry: Registry | undefined;
  /** Whether metrics are labelled with model ids. */
  readonly modelLabels: boolean;
  /** Most models with series of their own. */
  readonly maxModels: number;
  readonly clock: Clock;
}

/** The engine's Prometheus metrics: prefix `infermux_`, times in seconds, counters end in `_total`. */
export class EngineMetrics {
  /** What is looked for with a finder. */
  readonly searches: SearchMetrics;
  readonly #metrics: MetricsRegistration;
  readonly #models: BusiestModels;
  readonly #census: SessionCensus;
  readonly #hasModelLabels: boolean;
  readonly #errors;
  readonly #deploymentRequests;
  readonly #deploymentErrors;
  readonly #endpointRequests;
  readonly #endpointErrors;
  readonly #shadowRequests;
  readonly #shadowErrors;
  readonly #queueWait;
  readonly #getModel;
  readonly #loads;
  readonly #loadSeconds;
  readonly #loadExceptions;
  readonly #unloads;
  readonly #loadDuration;
  readonly #unloadDuration;
  readonly #ageAtEviction;
  readonly #restarts;
  readonly #batchSize;
  readonly #wideRuns;
  readonly #verificationFailures;
  readonly #routerErrors;
  #isClosed = false;

  /** @throws InfermuxError `FAILED_PRECONDITION` when the registry has metrics of another engine. */
  constructor(source: MetricsSource, { registry, modelLabels, maxModels, clock }: EngineMetricsOptions) {
    const models = new BusiestModels({
      most: modelLabels ? maxModels : 0,
      now: () => clock.now(),
      isThere: (model) => source.hasModel(model),
    });
    const hasSeries = (model: string) => models.has(model);
    const turns = new ScrapeTurns(
      (callback) => clock.nextTurn(callback),
      () => this.#scrapeBegins(),
    );
    const metrics = new MetricsRegistration(registry, turns, () => presenceIn(source, hasSeries));
    const model = modelLabels ? ['model'] : [];
    this.#models = models;
    this.#metrics = metrics;
    this.#census = new SessionCensus(source, (name) => (models.has(name) ? name : OTHER), turns);
    this.#hasModelLabels = modelLabels;

    const requests = models.lines((series) => series.requests);
    metrics.counterOf('router_requests_total', 'Requests accepted for routing.', requests);
    this.#errors = metrics.counter('request_errors_total', 'Requests answered with an error, by its code.', ['code']);
    const deployment = ['deployment'];
    this.#deploymentRequests = metrics.counter('deployment_requests_total', 'Requests, copies included.', deployment);
    this.#deploymentErrors = metrics.counter(
      'deployment_errors_total',
      'Requests that were refused or answered with an error, copies included.',
      deployment,
    );
    const endpoint = ['endpoint'];
    this.#endpointRequests = metrics.counter('endpoint_requests_total', 'Requests for endpoints.', endpoint);
    this.#endpointErrors = metrics.counter(
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
    this.#queueWait = metrics.histogram('queue_wait_seconds', 'From acceptance to a replica.', [], SECONDS).at();
    metrics.histogramOf(
      'run_duration_seconds',
      'The onnxruntime call of a request.',
      SECONDS,
      models.lines((series) => series.runDuration),
    );
    metrics.histogramOf(
      'request_duration_seconds',
      'From acceptance to the answer.',
      SECONDS,
      models.lines((series) => series.requestDuration),
    );
    this.#batchSize = metrics.histogram('batch_size', 'Requests that shared an onnxruntime call.', [], SIZES).at();
    const batches = models.lines((series) => series.batches);
    metrics.counterOf('batches_total', 'Calls that more than one request shared.', batches);
    const batchedRequests = models.lines((series) => series.batchedRequests);
    metrics.counterOf('batched_requests_total', 'Requests that shared a call with others.', batchedRequests);
    this.#wideRuns = metrics.counter('wide_runs_total', 'Calls with several threads, for lone or few requests.', model);
    this.#verificationFailures = metrics.counter(
      'batch_verification_failures_total',
      'Models that gave other results in a batch than alone.',
      model,
    );
    this.#routerErrors = metrics.counter('router_errors_total', 'Faults of the router, by kind.', [
      'deployment',
      'kind',
    ]);
    const replica = ['replica'];
    this.#getModel = metrics.counter(
      'get_model_requests_total',
      "Requests that asked a replica's session cache.",
      replica,
    );
    this.#loads = metrics.counter('model_loads_total', 'Sessions loaded.', ['replica', ...model]);
    this.#loadSeconds = metrics.counter('model_load_seconds_total', 'Time of loads of sessions.', model);
    this.#loadExceptions = metrics.counter('load_model_exceptions_total', 'Loads that failed.', [
      'replica',
      'type',
      'code',
    ]);
    this.#unloads = metrics.counter('model_unloads_total', 'Sessions released, by reason.', ['replica', 'reason']);
    this.#loadDuration = metrics.histogram('load_model_duration_seconds', 'Loads of sessions.', ['type'], SECONDS);
    this.#ageAtEviction = metrics
      .histogram(
        'model_age_at_eviction_seconds',
        'Time since an evicted session was last used; short ages mean thrashing.',
        [],
        AGES,
      )
      .at();
    this.#unloadDuration = metrics
      .histogram('model_unload_duration_seconds', 'Releases of sessions.', [], SECONDS)
      .at();
    this.#restarts = metrics.counter('replica_restarts_total', 'Replicas started again after a failure.', replica);
    this.searches = new SearchMetrics(metrics, SECONDS);
    registerGauges(metrics, source, this.#census);
    if (modelLabels) registerModelGauge(metrics, this.#census);
  }

  get registry(): Registry {
    return this.#metrics.registry;
  }

  requestAccepted(model: string): void {
    this.#models.requestAccepted(model);
  }

  /** Counts every request for the deployment, refused ones included. Keep it only while the deployment is there. */
  deploymentRequests(deployment: string): Count {
    return this.#deploymentRequests.at(deployment);
  }

  /** A request was refused, or answered with an error. */
  deploymentError(deployment: string): void {
    this.#deploymentErrors.at(deployment).sum += 1;
  }

  endpointRequest(endpoint: string): void {
    this.#endpointRequests.at(endpoint).sum += 1;
  }

  endpointError(endpoint: string): void {
    this.#endpointErrors.at(endpoint).sum += 1;
  }

  /** A copy of a request was sent to the target. */
  shadowRequest(endpoint: string, target: string): void {
    this.#shadowRequests.at(endpoint, target).sum += 1;
  }

  shadowError(endpoint: string, target: string, code: ErrorCode): void {
    this.#shadowErrors.at(endpoint, target, labelOf(code)).sum += 1;
  }

  requestsGiven(replica: string, requests: number): void {
    this.#getModel.at(replica).sum += requests;
  }

  requestWaited(queueMs: number): void {
    this.#queueWait.observe(queueMs / 1_000);
  }

  /** A request was answered. Times in milliseconds. */
  requestAnswered(model: string, { runMs, totalMs }: { readonly runMs: number; readonly totalMs: number }): void {
    const series = this.#models.of(model);
    series.runDuration.observe(runMs / 1_000);
    series.requestDuration.observe(totalMs / 1_000);
  }

  /** One onnxruntime call ran for `requests` requests, with several threads if it was wide. */
  called(model: string, requests: number, isWide: boolean): void {
    this.#batchSize.observe(requests);
    if (isWide) this.#wideRuns.at(...this.#label(model)).sum += 1;
    if (requests === 1) return;
    const series = this.#models.of(model);
    series.batches.sum += 1;
    series.batchedRequests.sum += requests;
  }

  batchVerificationFailed(model: string): void {
    this.#verificationFailures.at(...this.#label(model)).sum += 1;
  }

  requestFailed(code: ErrorCode): void {
    this.#errors.at(labelOf(code)).sum += 1;
  }

  /** @param type the model's format. */
  modelLoaded(replica: string, model: string, type: string, loadMs: number): void {
    this.#loads.at(replica, ...this.#label(model)).sum += 1;
    this.#loadSeconds.at(...this.#label(model)).sum += loadMs / 1_000;
    this.#loadDuration.at(type).observe(loadMs / 1_000);
  }

  modelLoadFailed(replica: string, type: string, code: ErrorCode): void {
    this.#loadExceptions.at(replica, type, labelOf(code)).sum += 1;
  }

  /** @param idleMs milliseconds since the session was last used. */
  modelUnloaded(replica: string, reason: UnloadReason, unloadMs: number, idleMs: number): void {
    this.#unloads.at(replica, reason).sum += 1;
    this.#unloadDuration.observe(unloadMs / 1_000);
    if (reason === 'evicted') this.#ageAtEviction.observe(idleMs / 1_000);
  }

  routerFailed(deployment: string, kind: string): void {
    this.#routerErrors.at(deployment, kind).sum += 1;
  }

  replicaRestarted(replica: string): void {
    this.#restarts.at(replica).sum += 1;
  }

  /**
   * Removes the metrics from the caller's registry. The engine's own registry stays readable, with the series that it
   * has now.
   */
  close(): void {
    this.#isClosed = true;
    this.#metrics.close();
  }

  #scrapeBegins(): void {
    this.#census.scrapeBegins();
    if (this.#isClosed) return;
    this.#models.review();
    this.#metrics.sweep();
  }

  #label(model: string): readonly string[] {
    return this.#hasModelLabels ? [this.#models.of(model).name] : [];
  }
}

/** Returns the label of an error's code. A handler may throw errors with codes of its own, any number of them. */
function labelOf(code: ErrorCode): string {
  return Object.hasOwn(ERROR_CODES, code) ? code : OTHER;
}
