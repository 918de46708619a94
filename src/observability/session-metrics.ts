import type { ErrorCode } from '../common/errors.js';
import type { UnloadReason } from '../contracts/eviction.js';
import { labelOf } from './registry/label-values.js';
import type { MetricsRegistration } from './registry/metrics-registration.js';

/** 0.1 s to a day, in seconds. */
const AGES = [0.1, 1, 5, 15, 60, 300, 900, 3_600, 14_400, 86_400];

/** Counts the sessions that come and go. */
export class SessionMetrics {
  readonly #label: (model: string) => readonly string[];
  readonly #getModel;
  readonly #loads;
  readonly #loadSeconds;
  readonly #loadExceptions;
  readonly #unloads;
  readonly #loadDuration;
  readonly #unloadDuration;
  readonly #ageAtEviction;
  readonly #releaseFailures;

  /**
   * @param seconds bounds of the buckets.
   * @param model names of the labels of a model: one, or none.
   * @param label returns their values.
   */
  constructor(
    metrics: MetricsRegistration,
    seconds: readonly number[],
    model: readonly string[],
    label: (model: string) => readonly string[],
  ) {
    this.#label = label;
    const replica = ['replica'];
    this.#getModel = metrics.counter(
      'get_model_requests_total',
      'Requests that used the session cache of a replica.',
      replica,
    );
    this.#loads = metrics.counter('model_loads_total', 'Loads of sessions.', ['replica', ...model]);
    this.#loadSeconds = metrics.counter('model_load_seconds_total', 'Total time of loads of sessions.', model);
    this.#loadExceptions = metrics.counter('load_model_exceptions_total', 'Loads of sessions that failed.', [
      'replica',
      'type',
      'code',
    ]);
    this.#unloads = metrics.counter('model_unloads_total', 'Sessions that were released, by reason.', [
      'replica',
      'reason',
    ]);
    this.#loadDuration = metrics.histogram(
      'load_model_duration_seconds',
      'Time of a load of a session.',
      ['type'],
      seconds,
    );
    this.#ageAtEviction = metrics
      .histogram(
        'model_age_at_eviction_seconds',
        'Time between the last use of a session and its eviction. Short times mean thrashing.',
        [],
        AGES,
      )
      .at();
    this.#unloadDuration = metrics
      .histogram('model_unload_duration_seconds', 'Time of the release of a session.', [], seconds)
      .at();
    this.#releaseFailures = metrics.counter(
      'model_release_failures_total',
      'Sessions that could not be released.',
      replica,
    );
  }

  /** Requests are given to the replica. */
  asked(replica: string, requests: number): void {
    this.#getModel.at(replica).sum += requests;
  }

  /** @param type the model's format. */
  loaded(replica: string, model: string, type: string, loadMs: number): void {
    this.#loads.at(replica, ...this.#label(model)).sum += 1;
    this.#loadSeconds.at(...this.#label(model)).sum += loadMs / 1_000;
    this.#loadDuration.at(type).observe(loadMs / 1_000);
  }

  loadFailed(replica: string, type: string, code: ErrorCode): void {
    this.#loadExceptions.at(replica, type, labelOf(code)).sum += 1;
  }

  /** @param idleMs milliseconds since the session was last used. */
  unloaded(replica: string, reason: UnloadReason, unloadMs: number, idleMs: number): void {
    this.#unloads.at(replica, reason).sum += 1;
    this.#unloadDuration.observe(unloadMs / 1_000);
    if (reason === 'evicted') this.#ageAtEviction.observe(idleMs / 1_000);
  }

  releaseFailed(replica: string): void {
    this.#releaseFailures.at(replica).sum += 1;
  }
}
