import { systemClock } from '../../../dist/common/clock.js';
import { startEngine } from '../../../dist/engine/create-engine.js';
import type { EngineOptions, InferenceEngine } from '../../../dist/index.js';
import { modelDirectory, scaleModel, slowRunModel } from '../onnx-models.js';

export const ids = ['times-1', 'times-2', 'times-3'];
export const directory = modelDirectory({
  ...Object.fromEntries(ids.map((id, index) => [id, scaleModel(index + 1)])),
  slow: slowRunModel(40),
});

/** Starts an engine of one replica, unless the options say otherwise. `logged` gets its log, a line a message. */
export async function startDeployments(options: EngineOptions = {}, worker?: URL) {
  const logged: string[] = [];
  const log = (fields: object, message: string) => logged.push(`${message} ${JSON.stringify(fields)}`);
  const logger = { debug: () => undefined, info: log, warn: log, error: log } as never;
  const environment = { clock: systemClock, ...(worker && { worker }) };
  const engine = await startEngine({ models: directory, replicas: 1, logger, ...options }, environment);
  return { engine, logged };
}

export const row = (value = 1, marker = 0) => ({
  x: { dims: [1, 4], data: Float32Array.of(value, marker, 0, 0) },
});
export const single = { x: { dims: [1], data: Float32Array.of(3) } };

/** The replicas that the engine of the moment has, by deployment. */
export function replicasIn(engine: () => InferenceEngine) {
  const replicasOf = (name: string) =>
    engine()
      .status()
      .replicas.filter(({ deployment }) => deployment === name);
  return { replicasOf, idsOf: (name: string) => replicasOf(name).map(({ id }) => id) };
}
