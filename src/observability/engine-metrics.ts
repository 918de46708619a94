import type { Registry } from 'prom-client';
import type { Clock } from '../common/clock.js';
import type { ErrorCode } from '../common/errors.js';
import { registerGauges, registerModelGauges } from './gauges.js';
import type { MetricsSource } from './metrics-source.js';
import { presenceIn } from './presence.js';
import { labelOf } from './registry/label-values.js';
import { MetricsRegistration } from './registry/metrics-registration.js';
import { ScrapeTurns } from './registry/scrape-turns.js';
import { SearchMetrics } from './search-metrics.js';
import { BusiestModels } from './series/busiest-models.js';
import { type Count, OTHER } from './series/lines.js';
import { SessionCensus } from './session-census.js';
import { SessionMetrics } from './session-metrics.js';
import { registerTritonMetrics } from './triton-metrics.js';

const SIZES = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024];

export interface EngineMetricsOptions {
  /** The caller's registry; when undefined the metrics get one of their own. */
  readonly registry: Registry | undefined;
  /** Whether metrics are labelled with model ids. */
  readonly modelLabels: boolean;
  /** Most models with series of their own. */
  readonly maxModels: number;
  /** Upper bounds of times, in seconds, in ascending order. */
  readonly buckets: readonly number[];
  /** Whether the counts of models are there under Triton's names, too. */
  readonly triton: boolean;
  readonly clock: Clock;
}

/** Milliseconds that a request took: in all, and parts of it. */
export interface AnswerTimes {
  readonly queueMs: number;
  readonly loadMs: number;
  readonly runMs: number;
  readonly totalMs: number;
}

/** The engine's Prometheus metrics: prefix `infermux_`, times in seconds, counters end in `_total`. */
export class EngineMetrics {
  /** What is looked for with a finder. */
  readonly searches: SearchMetrics;
  /** Sessions that come and go. */
  readonly sessions: SessionMetrics;
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
  readonly #restarts;
  readonly #batchSize;
  readonly #wideRuns;
  readonly #verificationFailures;
  readonly #routerErrors;
  readonly #killingRequests;
  #isClosed = false;

  /** @throws InfermuxError `FAILED_PRECONDITION` when the registry has metrics of another engine. */
  constructor(
    source: MetricsSource,
    { registry, modelLabels, maxModels, buckets: seconds, triton, clock }: EngineMetricsOptions,
  ) {
    const models = new BusiestModels({
      most: modelLabels ? maxModels : 0,
      seconds,
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
    metrics.counterOf('router_requests_total', 'Accepted requests.', requests);
    const failures = models.lines((series) => series.errors);
    metrics.counterOf('model_request_errors_total', 'Requests for a model that were answered with an error.', failures);
    this.#errors = metrics.counter(
      'request_errors_total',
      'Requests that were answered with an error, by error code.',
      ['code'],
    );
    const deployment = ['deployment'];
    this.#deploymentRequests = metrics.counter(
      'deployment_requests_total',
      'Accepted requests of a deployment, including shadow copies.',
      deployment,
    );
    this.#deploymentErrors = metrics.counter(
      'deployment_errors_total',
      'Requests of a deployment that were refused or answered with an error, including shadow copies.',
      deployment,
    );
    const endpoint = ['endpoint'];
    this.#endpointRequests = metrics.counter('endpoint_requests_total', 'Accepted requests for an endpoint.', endpoint);
    this.#endpointErrors = metrics.counter(
      'endpoint_errors_total',
      'Requests for an endpoint that were answered with an error.',
      endpoint,
    );
    const shadow = ['endpoint', 'target'];
    this.#shadowRequests = metrics.counter('shadow_requests_total', 'Shadow copies of requests.', shadow);
    this.#shadowErrors = metrics.counter('shadow_errors_total', 'Shadow copies that failed, by error code.', [
      ...shadow,
      'code',
    ]);
    this.#queueWait = metrics
      .histogram('queue_wait_seconds', 'Time from acceptance until a request is sent to a replica.', [], seconds)
      .at();
    metrics.histogramOf(
      'run_duration_seconds',
      'Time of the onnxruntime call of a request.',
      seconds,
      models.lines((series) => series.runDuration),
    );
    metrics.histogramOf(
      'request_duration_seconds',
      'Time from acceptance to the answer.',
      seconds,
      models.lines((series) => series.requestDuration),
    );
    this.#batchSize = metrics.histogram('batch_size', 'Number of requests in one onnxruntime call.', [], SIZES).at();
    const batches = models.lines((series) => series.batches);
    metrics.counterOf('batches_total', 'onnxruntime calls with more than one request.', batches);
    const batchedRequests = models.lines((series) => series.batchedRequests);
    metrics.counterOf(
      'batched_requests_total',
      'Requests that shared an onnxruntime call with others.',
      batchedRequests,
    );
    this.#wideRuns = metrics.counter(
      'wide_runs_total',
      'onnxruntime calls with several threads, for requests that run alone or with few others.',
      model,
    );
    this.#verificationFailures = metrics.counter(
      'batch_verification_failures_total',
      'Models that gave other results in a batch than in single runs.',
      model,
    );
    this.#killingRequests = metrics.counter(
      'killing_requests_total',
      'Harmful requests: they killed replicas, or ran alone for longer than runTimeoutMs.',
      ['deployment', ...model],
    );
    this.#routerErrors = metrics.counter('router_errors_total', 'Errors of a router, by kind.', ['deployment', 'kind']);
    this.sessions = new SessionMetrics(metrics, seconds, model, (id) => this.#label(id));
    this.#restarts = metrics.counter('replica_restarts_total', 'Restarts of replicas after a failure.', ['replica']);
    this.searches = new SearchMetrics(metrics, seconds);
    registerGauges(metrics, source, this.#census);
    if (modelLabels) registerModelGauges(metrics, source, this.#census);
    if (triton) registerTritonMetrics(metrics, models, source, this.#census);
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

  requestWaited(queueMs: number): void {
    this.#queueWait.observe(queueMs / 1_000);
  }

  /** A request was answered. Times in milliseconds. */
  requestAnswered(model: string, { queueMs, loadMs, runMs, totalMs }: AnswerTimes): void {
    const series = this.#models.of(model);
    series.waited.sum += (queueMs + loadMs) / 1_000;
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

  /** A request for the model was refused, or answered with an error. */
  modelRequestFailed(model: string): void {
    this.#models.of(model).errors.sum += 1;
  }

  /** A request ended two replicas, the second one alone. */
  requestKilled(deployment: string, model: string): void {
    this.#killingRequests.at(deployment, ...this.#label(model)).sum += 1;
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
