import type { MetricsSource } from './metrics-source.js';
import type { Presence } from './series/series-table.js';

/**
 * Reads what is there now. Labels that are not named here have few values.
 *
 * @param hasSeries whether a model has series of its own.
 */
export function presenceIn(source: MetricsSource, hasSeries: (model: string) => boolean): Presence {
  const deployments = new Set(Array.from(source.deployments(), ({ name }) => name));
  const replicas = new Set(Array.from(source.replicas(), ({ id }) => id));
  const shadows = new Map(Array.from(source.endpoints(), ({ name, shadow }) => [name, shadow]));
  return (label, labels) => {
    const value = labels[label] as string;
    switch (label) {
      case 'model':
        return hasSeries(value);
      case 'deployment':
        return deployments.has(value);
      case 'replica':
        return replicas.has(value);
      case 'endpoint':
        return shadows.has(value);
      case 'target':
        return Object.hasOwn(shadows.get(labels['endpoint'] as string) ?? {}, value);
      default:
        return true;
    }
  };
}
