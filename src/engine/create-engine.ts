import { systemClock } from '../common/clock.js';
import { readingInput } from '../common/errors.js';
import { Checkpoint } from '../deployments/checkpoint/checkpoint.js';
import type { ReplicaPoolEnvironment } from '../replicas/replica-pool.js';
import { replicaEntry } from '../replicas/threads/replica-entry.js';
import type { AnyModels, ModelTypes } from '../tensors/model-types.js';
import { InferenceEngine } from './engine.js';
import type { EngineOptions } from './engine-options.js';
import { resolveOptions } from './options.js';

/**
 * Starts an engine. Resolves when the replicas run and the models that must be loaded at the start (by default, only
 * pinned ones) are loaded. A model in a directory that cannot be served is logged, and requests for it are refused.
 *
 * @typeParam Models the models, with their inputs and outputs, as `infermux types` writes them. Default: any models.
 * @throws InfermuxError `INVALID_ARGUMENT` for bad options, `FAILED_PRECONDITION` for a directory or a model file that
 *   cannot be read, for a checkpoint that is damaged, from a newer version, or writable by everybody, and if infermux
 *   is part of a bundle; `REPLICA_FAILED` if no replica of a deployment starts.
 */
export function createEngine<Models extends ModelTypes<Models> = AnyModels>(
  options?: EngineOptions,
): Promise<InferenceEngine<Models>> {
  return startEngine<Models>(options, { clock: systemClock });
}

/** The environment of an engine. Default for `worker`: the module that comes with the package. */
type EngineEnvironment = Omit<ReplicaPoolEnvironment, 'worker'> & Partial<Pick<ReplicaPoolEnvironment, 'worker'>>;

/** {@link createEngine} with an environment of the caller's choice: for tests. */
export async function startEngine<Models extends ModelTypes<Models> = AnyModels>(
  options: EngineOptions | undefined,
  { worker = replicaEntry(), ...environment }: EngineEnvironment,
): Promise<InferenceEngine<Models>> {
  const resolved = readingInput('options', () => resolveOptions(options));
  const { checkpoint: named } = resolved;
  const checkpoint = named && (await Checkpoint.open(named.file));
  return InferenceEngine.start<Models>(resolved, checkpoint, { worker, ...environment });
}
