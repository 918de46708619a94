import { createEngine, type EngineOptions, type InferenceEngine, type InfermuxError } from '../../../dist/index.js';

const ignore = () => undefined;

/** Starts an engine of two replicas with these models. `logged` gets its log: message, model and reason in one line. */
export async function startModels(models: EngineOptions['models'], options: EngineOptions = {}) {
  const logged: string[] = [];
  const note = ((fields: { model?: string; reason?: string }, message: string) =>
    logged.push([message, fields.model, fields.reason].filter(Boolean).join(': '))) as never;
  const engine = await createEngine({
    ...{ models, replicas: 2, logger: { debug: ignore, info: note, warn: note, error: note } },
    ...options,
  } as EngineOptions);
  return { engine, logged };
}

export const row = { x: { dims: [1, 4], data: Float32Array.of(1, 1, 1, 1) } };
export const one = { x: { dims: [1], data: Float32Array.of(1) } };

/** Resolves to how a call ends: `done`, or the code of its error. */
export const code = (call: Promise<unknown>) =>
  call.then(
    () => 'done',
    (error: InfermuxError) => error.code,
  );

/** What tests of models ask the engine of the moment. */
export function questionsTo(engine: () => InferenceEngine) {
  return {
    /** Resolves to the first number that the model answers to {@link row}. */
    ask: async (target: string) => Number((await engine().run(target, row))['y']?.data[0]),
    stateOf: (target: string) =>
      engine()
        .models.get(target)
        .replicas.map(({ state }) => state),
    /** Resolves to the sum of the metric over its labels. */
    metric: async (name: string): Promise<number> => {
      const { values } = (await engine().metrics.getSingleMetric(name)?.get()) ?? { values: [] };
      return values
        .filter((value) => [undefined, `${name}_count`].includes((value as { metricName?: string }).metricName))
        .reduce((sum, { value }) => sum + value, 0);
    },
  };
}
