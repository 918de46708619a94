import { createEngine } from '../../index.js';
import { OWN_MODELS } from '../serve/own-models.js';
import type { Jobs, Signs } from './jobs.js';

/** One of the package's own models. */
const MODEL = 'digits-mlp';
const PIXELS = 64;

/** Runs a small model with an execution provider. @throws InfermuxError when that does not work. */
export async function tryProvider({ provider }: Jobs['provider']['given'], { begins }: Signs): Promise<undefined> {
  const engine = await createEngine({
    models: OWN_MODELS,
    replicas: 1,
    loadTimeoutMs: -1,
    session: { executionProviders: [provider] },
    weights: 'private',
  });
  begins('load', engine.models.size(MODEL));
  await engine.run(MODEL, { image: { dims: [1, PIXELS], data: new Float32Array(PIXELS) } });
  await engine.close();
}
