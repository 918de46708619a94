import type { MetricsSource, ResidentSession } from '../../../dist/observability/metrics-source.js';

/** What the metrics read of an engine, to be set by a test. */
export class FakeMetricsSource implements MetricsSource {
  deploymentNames: string[] = ['default'];
  replicaIds: string[] = ['default-0', 'default-1'];
  /** Shadow targets by endpoint. */
  shadows: Readonly<Record<string, readonly string[]>> = {};
  /** Models that are there; undefined: all. */
  models: ReadonlySet<string> | undefined;
  resident: readonly string[] = [];
  loading: readonly string[] = [];

  deployments() {
    return this.deploymentNames.map((name) => ({
      name,
      queued: 0,
      targetReplicas: 2,
      runningReplicas: 2,
      express: false,
    }));
  }

  replicas() {
    return this.replicaIds.map((id) => ({ id, isRunning: true, ongoing: 0, models: this.resident.length }));
  }

  /** Requests that wait, by model. */
  queued: readonly (readonly [model: string, queued: number])[] = [];

  queuedModels() {
    return this.queued;
  }

  tensorMemory() {
    return { usedBytes: 0, freeBytes: 0 };
  }

  endpoints() {
    return Object.entries(this.shadows).map(([name, targets]) => ({
      name,
      shadow: Object.fromEntries(targets.map((target) => [target, 1])),
    }));
  }

  hasModel(id: string): boolean {
    return this.models?.has(id) ?? true;
  }

  *sessions(): Iterable<ResidentSession> {
    for (const replica of this.replicaIds) {
      for (const model of this.resident) yield { replica, model, type: 'onnx', bytes: 10, isLoaded: true };
      for (const model of this.loading) yield { replica, model, type: 'onnx', bytes: 10, isLoaded: false };
    }
  }
}
