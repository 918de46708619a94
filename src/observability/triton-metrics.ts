import type { MetricsSource } from './metrics-source.js';
import type { MetricsRegistration } from './registry/metrics-registration.js';
import type { BusiestModels } from './series/busiest-models.js';
import type { ModelSeries } from './series/model-series.js';
import type { SessionCensus } from './session-census.js';

const US_PER_S = 1e6;

const answers = ({ requestDuration }: ModelSeries) => requestDuration.counts.reduce((sum, count) => sum + count, 0);

/** What is neither waiting nor a run: the way to the replica and back. */
const way = ({ requestDuration, waited, runDuration }: ModelSeries) =>
  Math.max(0, requestDuration.sum - waited.sum - runDuration.sum);

/** Counters of Triton (https://github.com/triton-inference-server/server/blob/main/docs/user_guide/metrics.md). */
const COUNTERS: readonly (readonly [name: string, help: string, read: (series: ModelSeries) => number])[] = [
  ['request_success', 'Requests answered with outputs.', answers],
  ['request_failure', 'Requests refused or answered with an error.', ({ errors }) => errors.sum],
  ['count', 'Requests run, each as one, whether or not they shared a call.', answers],
  [
    'exec_count',
    'Calls of onnxruntime.',
    // Those that shared a call, as one for each call.
    (series) => answers(series) - series.batchedRequests.sum + series.batches.sum,
  ],
  [
    'request_duration_us',
    'Microseconds from acceptance to the answer.',
    ({ requestDuration }) => requestDuration.sum * US_PER_S,
  ],
  [
    'queue_duration_us',
    'Microseconds of waiting for a replica and for the model.',
    ({ waited }) => waited.sum * US_PER_S,
  ],
  [
    'compute_input_duration_us',
    'Half of the microseconds of the way to the replica and back.',
    (series) => (way(series) / 2) * US_PER_S,
  ],
  [
    'compute_infer_duration_us',
    'Microseconds of the calls of requests.',
    ({ runDuration }) => runDuration.sum * US_PER_S,
  ],
  ['compute_output_duration_us', 'The other half of the way.', (series) => (way(series) / 2) * US_PER_S],
];

/**
 * Registers what is counted for each model once more under the names of Triton, which dashboards, autoscalers and endpoint
 * pickers know.
 */
export function registerTritonMetrics(
  metrics: MetricsRegistration,
  models: BusiestModels,
  source: MetricsSource,
  census: SessionCensus,
): void {
  for (const [suffix, help, read] of COUNTERS) {
    metrics.foreignCounter(`nv_inference_${suffix}`, help, models.derived(read));
  }
  metrics.foreignGauge('nv_inference_pending_request_count', 'Requests that wait for a replica.', () =>
    Array.from(census.byLabel(source.queuedModels()), ([model, value]) => ({ labels: { model }, value })),
  );
}
