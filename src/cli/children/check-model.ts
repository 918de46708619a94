import { createEngine, type InferenceEngine } from '../../index.js';
import { type ModelPlace, optionsOf } from '../models/model-place.js';
import type { Jobs, Signs } from './jobs.js';

/** Opened by the first check, and used by all: the process looks at one place. */
let opened: Promise<InferenceEngine> | undefined;

/** @throws InfermuxError when the model cannot be loaded. */
export async function checkModel(
  { place, model }: Jobs['check']['given'],
  { begins }: Signs,
): Promise<Jobs['check']['result']> {
  opened ??= open(place);
  const { models } = await opened;
  await models.find(model);
  begins('load', models.size(model));
  await models.load(model);
  const { inputs, outputs } = await models.inspect(model);
  await models.unload(model);
  return { inputs, outputs };
}

async function open(place: ModelPlace): Promise<InferenceEngine> {
  // With pinned models, a load would not be the only one.
  const repository = { pinned: false };
  return createEngine({ ...(await optionsOf(place)), replicas: 1, loadTimeoutMs: -1, repository });
}
