import { Counter, Gauge, Histogram, type Metric, Registry } from 'prom-client';
import { type ErrorCode, InfermuxError } from '../common/errors.js';
import type { UnloadReason } from '../contracts/eviction.js';
import { CounterTally, HistogramTally, type TallyLine } from './tallies.js';

const PREFIX = 'infermux_';
/** 0.1 ms to 10 s, in seconds. */
const SECONDS = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
/** 0.1 s to a day, in seconds. */
const AGES = [0.1, 1, 5, 15, 60, 300, 900, 3_600, 14_400, 86_400];
const SIZES = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024];

/** The values that gauges read when they are scraped, so that a request writes no gauge. */
export interface MetricsSource {
  deployments(): Iterable<{
    readonly name: string;
    readonly queued: number;
    readonly targetReplicas: number;
    readonly runningReplicas: number;
  }>;
  replicas(): Iterable<{
    readonly id: string;
    readonly isRunning: boolean;
    readonly ongoing: number;
    readonly models: Iterable<string>;
  }>;
  /** Loaded sessions, and the bytes of their model files, by format. */
  loaded(): Iterable<{ readonly type: string; readonly models: number; readonly bytes: number }>;
}

/** The engine's Prometheus metrics: prefix `infermux_`, times in seconds, counters end in `_total`. */
export class EngineMetrics {
  readonly registry: Registry;
  readonly #isOwnRegistry: boolean;
  readonly #modelLabels: boolean;
  readonly #names: string[] = [];
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
    this.registry = registry ?? new Registry();
    this.#isOwnRegistry = registry === undefined;
    this.#modelLabels = modelLabels;
    this.#checkUnused();
    const model = modelLabels ? ['model'] : [];

    this.#requests = this.#tally('router_requests_total', 'Requests accepted for routing.', model);
    this.#errors = this.#counter('request_errors_total', 'Requests answered with an error, by its code.', ['code']);
    const deployment = ['deployment'];
    this.#deploymentRequests = this.#tally('deployment_requests_total', 'Requests, copies included.', deployment);
    this.#deploymentErrors = this.#tally(
      'deployment_errors_total',
      'Requests that were refused or answered with an error, copies included.',
      deployment,
    );
    const endpoint = ['endpoint'];
    this.#endpointRequests = this.#tally('endpoint_requests_total', 'Requests for endpoints.', endpoint);
    this.#endpointErrors = this.#tally(
      'endpoint_errors_total',
      'Requests for endpoints answered with an error.',
      endpoint,
    );
    const shadow = ['endpoint', 'target'];
    this.#shadowRequests = this.#counter('shadow_requests_total', 'Copies of requests for shadow targets.', shadow);
    this.#shadowErrors = this.#counter('shadow_errors_total', 'Copies without an answer, by error code.', [
      ...shadow,
      'code',
    ]);
    this.#queueWait = this.#tallyHistogram('queue_wait_seconds', 'From acceptance to a replica.', [], SECONDS);
    this.#runDuration = this.#tallyHistogram(
      'run_duration_seconds',
      'The onnxruntime call of a request.',
      model,
      SECONDS,
    );
    this.#requestDuration = this.#tallyHistogram(
      'request_duration_seconds',
      'From acceptance to the answer.',
      model,
      SECONDS,
    );
    this.#batchSize = this.#tallyHistogram('batch_size', 'Requests that shared an onnxruntime call.', model, SIZES);
    this.#batches = this.#tally('batches_total', 'Calls that more than one request shared.', model);
    this.#verificationFailures = this.#counter(
      'batch_verification_failures_total',
      'Models that gave other results in a batch than alone.',
      model,
    );
    this.#routerErrors = this.#counter('router_errors_total', 'Faults of the router, by kind.', ['deployment', 'kind']);
    this.#getModel = this.#tally('get_model_requests_total', "Requests that asked a replica's session cache.", [
      'replica',
    ]);
    this.#loads = this.#counter('model_loads_total', 'Sessions loaded.', ['replica', ...model]);
    this.#loadExceptions = this.#counter('load_model_exceptions_total', 'Loads that failed.', [
      'replica',
      'type',
      'code',
    ]);
    this.#unloads = this.#counter('model_unloads_total', 'Sessions released, by reason.', ['replica', 'reason']);
    this.#loadDuration = this.#histogram('load_model_duration_seconds', 'Loads of sessions.', ['type', ...model]);
    this.#ageAtEviction = this.#histogram(
      'model_age_at_eviction_seconds',
      'Time since an evicted session was last used; short ages mean thrashing.',
      [],
      AGES,
    );
    this.#unloadDuration = this.#histogram('model_unload_duration_seconds', 'Releases of sessions.', []);
    this.#restarts = this.#counter('replica_restarts_total', 'Replicas started again after a failure.', ['replica']);

    this.#gauge('queued_requests', 'Requests that wait for a replica.', ['deployment'], (gauge) => {
      for (const { name, queued } of source.deployments()) gauge.set({ deployment: name }, queued);
    });
    this.#gauge('deployment_target_replicas', 'Replicas that the deployment should have.', ['deployment'], (gauge) => {
      for (const { name, targetReplicas } of source.deployments()) gauge.set({ deployment: name }, targetReplicas);
    });
    this.#gauge('deployment_running_replicas', 'Replicas that take requests.', ['deployment'], (gauge) => {
      for (const { name, runningReplicas } of source.deployments()) gauge.set({ deployment: name }, runningReplicas);
    });
    this.#gauge('ongoing_requests', 'Requests given to a replica and not finished.', ['replica'], (gauge) => {
      for (const { id, ongoing } of source.replicas()) gauge.set({ replica: id }, ongoing);
    });
    this.#gauge('replica_up', '1 when the replica runs.', ['replica'], (gauge) => {
      for (const { id, isRunning } of source.replicas()) gauge.set({ replica: id }, isRunning ? 1 : 0);
    });
    this.#gauge('replica_models', 'Sessions that a replica has or is loading.', ['replica'], (gauge) => {
      for (const { id, models } of source.replicas()) gauge.set({ replica: id }, [...models].length);
    });
    this.#gauge('loaded_models', 'Sessions that are loaded, in all replicas.', ['type'], (gauge) => {
      for (const { type, models } of source.loaded()) gauge.set({ type }, models);
    });
    const size = 'Bytes of model files whose sessions are loaded, in all replicas.';
    this.#gauge('total_loaded_models_size_bytes', size, ['type'], (gauge) => {
      for (const { type, bytes } of source.loaded()) gauge.set({ type }, bytes);
    });
    if (!modelLabels) return;
    this.#gauge(
      'registered_model_id',
      '1 for each model that a replica has or is loading.',
      ['replica', 'model'],
      (gauge) => {
        for (const { id, models } of source.replicas()) {
          for (const modelId of models) gauge.set({ replica: id, model: modelId }, 1);
        }
      },
    );
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
    if (this.#isOwnRegistry) return;
    for (const name of this.#names) this.registry.removeSingleMetric(name);
  }

  #label(model: string): Record<string, string> {
    return this.#modelLabels ? { model } : {};
  }

  #counter(name: string, help: string, labelNames: string[]): Counter {
    return this.#register(new Counter({ name: this.#claim(name), help, labelNames, registers: [] }));
  }

  #tally(name: string, help: string, labelNames: string[]): CounterTally {
    const tally = new CounterTally({ name: this.#claim(name), help, labelNames });
    this.#register(tally.metric);
    return tally;
  }

  #tallyHistogram(name: string, help: string, labelNames: string[], buckets: readonly number[]): HistogramTally {
    const tally = new HistogramTally({ name: this.#claim(name), help, labelNames, buckets });
    this.registry.registerMetric(tally as unknown as Metric);
    return tally;
  }

  #histogram(name: string, help: string, labelNames: string[], buckets = SECONDS): Histogram {
    return this.#register(new Histogram({ name: this.#claim(name), help, labelNames, buckets, registers: [] }));
  }

  #gauge(name: string, help: string, labelNames: string[], collect: (gauge: Gauge) => void): void {
    const options = { name: this.#claim(name), help, labelNames, registers: [] };
    this.#register(
      new Gauge({
        ...options,
        collect() {
          // A label that is gone must not keep its last value.
          this.reset();
          collect(this);
        },
      }),
    );
  }

  #checkUnused(): void {
    const other = this.registry.getMetricsAsArray().find(({ name }) => name.startsWith(PREFIX));
    if (other === undefined) return;
    throw new InfermuxError(
      'FAILED_PRECONDITION',
      `options.registry has a metric ${other.name} already: give each engine a registry of its own, or close the other first`,
    );
  }

  #claim(suffix: string): string {
    const name = `${PREFIX}${suffix}`;
    this.#names.push(name);
    return name;
  }

  #register<M extends Metric>(metric: M): M {
    this.registry.registerMetric(metric);
    return metric;
  }
}
