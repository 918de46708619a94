import type { MetricsRegistration } from './metrics-registration.js';

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

/**
 * Registers the gauges, which read the source when they are scraped.
 *
 * @param modelLabels whether models have series of their own.
 */
export function registerGauges(metrics: MetricsRegistration, source: MetricsSource, modelLabels: boolean): void {
  metrics.gauge('queued_requests', 'Requests that wait for a replica.', ['deployment'], (gauge) => {
    for (const { name, queued } of source.deployments()) gauge.set({ deployment: name }, queued);
  });
  metrics.gauge('deployment_target_replicas', 'Replicas that the deployment should have.', ['deployment'], (gauge) => {
    for (const { name, targetReplicas } of source.deployments()) gauge.set({ deployment: name }, targetReplicas);
  });
  metrics.gauge('deployment_running_replicas', 'Replicas that take requests.', ['deployment'], (gauge) => {
    for (const { name, runningReplicas } of source.deployments()) gauge.set({ deployment: name }, runningReplicas);
  });
  metrics.gauge('ongoing_requests', 'Requests given to a replica and not finished.', ['replica'], (gauge) => {
    for (const { id, ongoing } of source.replicas()) gauge.set({ replica: id }, ongoing);
  });
  metrics.gauge('replica_up', '1 when the replica runs.', ['replica'], (gauge) => {
    for (const { id, isRunning } of source.replicas()) gauge.set({ replica: id }, isRunning ? 1 : 0);
  });
  metrics.gauge('replica_models', 'Sessions that a replica has or is loading.', ['replica'], (gauge) => {
    for (const { id, models } of source.replicas()) gauge.set({ replica: id }, [...models].length);
  });
  metrics.gauge('loaded_models', 'Sessions that are loaded, in all replicas.', ['type'], (gauge) => {
    for (const { type, models } of source.loaded()) gauge.set({ type }, models);
  });
  const size = 'Bytes of model files whose sessions are loaded, in all replicas.';
  metrics.gauge('total_loaded_models_size_bytes', size, ['type'], (gauge) => {
    for (const { type, bytes } of source.loaded()) gauge.set({ type }, bytes);
  });
  if (!modelLabels) return;
  metrics.gauge(
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
