import { createEngine, type InferenceEngine } from '../../index.js';
import type { Jobs, Signs } from './jobs.js';

/** Opened by the first check, and used by all: the process looks at one directory. */
let opened: Promise<InferenceEngine> | undefined;

/** @throws InfermuxError when the model cannot be loaded. */
export async function checkModel({ directory, model }: Jobs['check']['given'], { begins }: Signs): Promise<undefined> {
  // With pinned models, a load would not be the only one.
  opened ??= createEngine({ models: directory, replicas: 1, loadTimeoutMs: -1, repository: { pinned: false } });
  const { models } = await opened;
  begins('load', models.size(model));
  await models.load(model);
  await models.unload(model);
}
