import { NO_MODEL } from '../../contracts/handler.js';
import { allPlacesOf } from '../../deployments/deployment-report.js';
import type { Deployments } from '../../deployments/deployments.js';
import type { Endpoints } from '../../endpoints/endpoints.js';
import type { ModelCatalog } from '../../models/model-catalog.js';
import type { MetricsSource, ResidentSession } from '../../observability/metrics-source.js';
import type { Replica } from '../../replicas/replica.js';
import type { Dispatcher } from '../../routing/dispatcher.js';
import type { Slabs } from '../../tensors/memory/slabs.js';
import { labelOf } from './dispatcher-observer.js';

export interface MetricsSourceParts {
  readonly catalog: ModelCatalog;
  readonly deployments: Deployments<Dispatcher<Replica>>;
  readonly endpoints: Endpoints;
  readonly slabs: Slabs;
}

/** Returns what the metrics read of the engine. The parts are read with each scrape. */
export function metricsSource(parts: MetricsSourceParts): MetricsSource {
  const places = () => parts.deployments.all.flatMap(allPlacesOf);
  return {
    deployments: () => parts.deployments.list(),
    replicas: () =>
      places().map(({ id, replica }) => ({
        id,
        isRunning: replica?.state === 'running',
        ongoing: replica?.ongoing ?? 0,
        models: replica === undefined ? 0 : replica.models.size - (replica.models.has(NO_MODEL) ? 1 : 0),
      })),
    *queuedModels() {
      for (const { queue } of parts.deployments.all)
        for (const { model, queued } of queue.modelsAsked()) yield [labelOf(model), queued] as const;
    },
    tensorMemory: () => parts.slabs,
    endpoints: () => parts.endpoints.list(),
    // Requests that name no model, and a handler's own models, count as one model.
    hasModel: (id) => id === NO_MODEL || parts.catalog.has(id),
    *sessions(): Iterable<ResidentSession> {
      for (const { id, replica } of places()) {
        for (const [key, state] of replica?.models ?? []) {
          if (key === NO_MODEL) continue;
          const {
            id: model,
            format: type,
            bytes,
          } = parts.catalog.byKey(key) ?? {
            ...OWN_MODEL,
            bytes: replica?.bytesOfOwn(key) ?? 0,
          };
          yield { replica: id, model, type, bytes, isLoaded: state === 'loaded' };
        }
      }
    },
  };
}

/** A model that a handler brings, whose name may be any: whatever requests ask for. */
const OWN_MODEL = { id: NO_MODEL, format: 'handler' };
