import type { MetricsSource } from './metrics-source.js';
import type { GaugeSample, MetricsRegistration } from './registry/metrics-registration.js';
import type { Labels } from './series/lines.js';
import type { SessionCensus } from './session-census.js';

/** Registers the gauges, which read the source when they are scraped. */
export function registerGauges(metrics: MetricsRegistration, source: MetricsSource, census: SessionCensus): void {
  metrics.gauge('queued_requests', 'Requests that wait for a replica.', () =>
    samples(source.deployments(), ({ name, queued }) => [{ deployment: name }, queued]),
  );
  metrics.gauge('deployment_target_replicas', 'Replicas that the deployment should have.', () =>
    samples(source.deployments(), ({ name, targetReplicas }) => [{ deployment: name }, targetReplicas]),
  );
  metrics.gauge('deployment_running_replicas', 'Running replicas, without the express replica.', () =>
    samples(source.deployments(), ({ name, runningReplicas }) => [{ deployment: name }, runningReplicas]),
  );
  metrics.gauge('deployment_express_replica', '1 if the deployment has an express replica.', () =>
    samples(source.deployments(), ({ name, express }) => [{ deployment: name }, express ? 1 : 0]),
  );
  metrics.gauge('ongoing_requests', 'Requests that were sent to a replica and are not finished.', () =>
    samples(source.replicas(), ({ id, ongoing }) => [{ replica: id }, ongoing]),
  );
  metrics.gauge('replica_up', '1 if the replica runs.', () =>
    samples(source.replicas(), ({ id, isRunning }) => [{ replica: id }, isRunning ? 1 : 0]),
  );
  metrics.gauge('replica_models', 'Sessions that a replica has loaded or is loading.', () =>
    samples(source.replicas(), ({ id, models }) => [{ replica: id }, models]),
  );
  metrics.gauge('loaded_models', 'Loaded sessions in all replicas.', async () =>
    samples((await census.take()).loaded, ([type, { models }]) => [{ type }, models]),
  );
  metrics.gauge('loading_models', 'Sessions that are being loaded in all replicas.', async () =>
    samples((await census.take()).loading, ([type, models]) => [{ type }, models]),
  );
  metrics.gauge(
    'tensor_memory_bytes',
    'Shared memory for large tensors: used by requests, or free for later ones.',
    () => {
      const { usedBytes, freeBytes } = source.tensorMemory();
      return samples(Object.entries({ used: usedBytes, free: freeBytes }), ([state, bytes]) => [{ state }, bytes]);
    },
  );
  const size = 'Bytes of the files of loaded sessions in all replicas.';
  metrics.gauge('total_loaded_models_size_bytes', size, async () =>
    samples((await census.take()).loaded, ([type, { bytes }]) => [{ type }, bytes]),
  );
}

/** Registers the gauges of each model. */
export function registerModelGauges(metrics: MetricsRegistration, source: MetricsSource, census: SessionCensus): void {
  metrics.gauge('model_queued_requests', 'Requests for a model that wait for a replica.', () =>
    samples(census.byLabel(source.queuedModels()), ([model, queued]) => [{ model }, queued]),
  );
  metrics.gauge('registered_model_id', 'Sessions of a model that a replica has loaded or is loading.', async () => {
    const { held } = await census.take();
    return [...held].flatMap(([replica, models]) =>
      samples(models, ([model, sessions]) => [{ replica, model }, sessions]),
    );
  });
}

function samples<T>(items: Iterable<T>, read: (item: T) => [labels: Labels, value: number]): GaugeSample[] {
  return Array.from(items, (item) => {
    const [labels, value] = read(item);
    return { labels, value };
  });
}
