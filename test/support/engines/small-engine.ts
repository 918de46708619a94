import { createEngine, type EngineOptions, type InferenceEngine } from '../../../dist/index.js';
import { modelDirectory, pickyModel, scaleModel, slowLoadModel, slowRunModel, throughModel } from '../onnx-models.js';

export const ids = Array.from({ length: 6 }, (_, index) => `times-${index + 1}`);
const directory = modelDirectory({
  ...Object.fromEntries(ids.map((id, index) => [id, scaleModel(index + 1)])),
  picky: pickyModel(),
  through: throughModel(),
  'slow-run': slowRunModel(40),
  'slow-load': slowLoadModel(8),
});

/** Starts an engine of two replicas, unless the options say otherwise, with models of a few operators. */
export function startSmall(options: EngineOptions = {}): Promise<InferenceEngine> {
  return createEngine({ models: directory, replicas: 2, ...options });
}

export const row = (...values: number[]) => ({
  x: { dims: [1, 4], data: Float32Array.from({ length: 4 }, (_, i) => values[i] ?? 0) },
});
export const single = { x: { dims: [1], data: Float32Array.of(3) } };

/** Resolves to the sum of the samples of the metric that have these labels. */
export async function sampleOf(
  engine: InferenceEngine,
  name: string,
  labels: Record<string, string> = {},
): Promise<number> {
  const metric = await engine.metrics.getSingleMetric(name)?.get();
  const matching = (metric?.values ?? []).filter((value) =>
    Object.entries(labels).every(([label, wanted]) => value.labels[label] === wanted),
  );
  return matching.reduce((sum, { value }) => sum + value, 0);
}
