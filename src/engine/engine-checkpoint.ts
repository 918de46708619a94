import { isInteger, isObject, isText } from '../common/checks.js';
import { messageOf, show } from '../common/errors.js';
import { type Checkpoint, type CheckpointContent, checkpointRefused } from '../deployments/checkpoint/checkpoint.js';
import {
  checkSavable,
  type SavedDeployments,
  withoutDeclaredRouter,
} from '../deployments/checkpoint/saved-deployments.js';
import { checkDeploymentName } from '../deployments/config/deployment-name.js';
import type { DeploymentOptions } from '../deployments/config/deployment-options.js';
import { resolveDeployment } from '../deployments/config/resolve-deployment.js';
import type { SavedEndpoints } from '../endpoints/endpoints.js';
import { type EndpointOptions, readTraffic } from '../endpoints/traffic.js';
import { targetOf } from '../models/finder/target.js';
import type { Pin } from '../models/saved-pins.js';
import { type CheckedSource, checkSources, type ModelSources } from '../models/sources/model-sources.js';
import { checkFollowable, type ResolvedModels, type ResolvedOptions, resolveModels } from './options.js';

/** What an engine restores from its checkpoint, and saves to it. Without a checkpoint it is empty and saves nothing. */
export class EngineCheckpoint {
  readonly deployments: SavedDeployments;
  readonly endpoints: SavedEndpoints;
  readonly pins: readonly Pin[];
  /** The models of the options; the checkpoint's when the options name none. */
  readonly models: ResolvedModels;
  /** The sources that were registered while an engine ran, by `id@version`. */
  readonly registered: Readonly<Record<string, CheckedSource>>;
  readonly #checkpoint: Checkpoint | undefined;

  /** @throws InfermuxError `FAILED_PRECONDITION` when a part of the file is damaged. */
  constructor(checkpoint: Checkpoint | undefined, options: ResolvedOptions) {
    this.#checkpoint = checkpoint;
    const { deployments, endpoints, models, pins, registered } = checkpoint?.content ?? {};
    const file = checkpoint?.file ?? '';
    this.deployments = part(file, 'deployments', () => readDeployments(deployments ?? {}));
    this.endpoints = part(file, 'endpoints', () => readEndpoints(endpoints ?? {}));
    this.pins = part(file, 'pins', () => readPins(pins ?? []));
    this.registered = part(file, 'registered', () => readRegistered(registered ?? {}));
    const saved = part(file, 'models', () => readModels(models ?? {}));
    this.models = options.isModelsGiven ? options.models : saved;
    checkFollowable(this.models, options.repository);
  }

  /** Why somebody else could have written the checkpoint or could replace it; undefined when nobody could. */
  get doubt(): string | undefined {
    return this.#checkpoint?.doubt;
  }

  /** Resolves when it is written; at once without a checkpoint. @throws InfermuxError `FAILED_PRECONDITION`. */
  async save(content: CheckpointContent): Promise<void> {
    await this.#checkpoint?.save(content);
  }

  /** Resolves when no write is under way. */
  async untilWritten(): Promise<void> {
    await this.#checkpoint?.untilWritten();
  }

  /** Saves the sources that were registered. @throws InfermuxError `FAILED_PRECONDITION`. */
  async saveRegistered(sources: ReadonlyMap<string, CheckedSource>): Promise<void> {
    if (this.#checkpoint === undefined) return;
    for (const [name, source] of sources) checkSavable(`the source of model ${show(name)}`, source);
    await this.save({ registered: Object.fromEntries(sources) });
  }

  /** Saves the models, except those that exist in memory only. */
  async saveModels(): Promise<void> {
    if (this.#checkpoint === undefined) return;
    await this.save({ models: savable(this.models) });
  }
}

function part<T>(file: string, name: string, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    throw checkpointRefused(file, `is damaged: ${name}: ${messageOf(cause)}`, cause);
  }
}

function readDeployments(saved: unknown): SavedDeployments {
  for (const [name, deployment] of entriesOf(saved)) {
    checkDeploymentName(name);
    const { declared, options, goal } = Object.fromEntries(entriesOf(deployment));
    if (goal !== undefined && isText(goal) !== undefined) throw new Error(`${show(name)} has a goal that is none`);
    // They are checked again where they are used. Here the check comes before the engine starts anything.
    for (const given of [declared, options]) {
      if (given === undefined) throw new Error(`${show(name)} has no options`);
      if (given !== null) resolveDeployment(show(name), withoutDeclaredRouter(given as DeploymentOptions), 1);
    }
  }
  return saved as SavedDeployments;
}

function readEndpoints(saved: unknown): SavedEndpoints {
  for (const [name, options] of entriesOf(saved)) readTraffic(show(name), options as EndpointOptions);
  return saved as SavedEndpoints;
}

function readPins(saved: unknown): readonly Pin[] {
  if (!Array.isArray(saved)) throw new Error(`expected a list, got ${show(saved)}`);
  const isCount = isInteger({ lowest: 1 });
  for (const pin of saved) {
    const { target, deployment, replicas } = Object.fromEntries(entriesOf(pin));
    const isPin = isText(target) === undefined && isText(deployment) === undefined;
    if (!isPin || (replicas !== 'all' && isCount(replicas) !== undefined)) throw new Error(`${show(pin)} is not a pin`);
  }
  return saved;
}

function readRegistered(saved: unknown): Readonly<Record<string, CheckedSource>> {
  for (const [name] of entriesOf(saved)) {
    if (targetOf(name)?.version === undefined) throw new Error(`${show(name)} is no id@version`);
  }
  return checkSources('registered', saved as ModelSources);
}

function readModels(saved: unknown): ResolvedModels {
  if (typeof saved !== 'string') entriesOf(saved);
  return resolveModels(saved as Parameters<typeof resolveModels>[0]);
}

function entriesOf(value: unknown): [string, unknown][] {
  const expectation = isObject(value);
  if (expectation !== undefined) throw new Error(`expected ${expectation}, got ${show(value)}`);
  return Object.entries(value as object);
}

/** Leaves out the models that exist in memory only. */
function savable(models: ResolvedModels): ResolvedModels {
  if (typeof models === 'string') return models;
  const inFiles: Record<string, CheckedSource> = {};
  for (const [id, source] of Object.entries(models)) {
    if (source.path === undefined) continue;
    checkSavable(`options.models[${show(id)}]`, source);
    inFiles[id] = source;
  }
  return inFiles;
}
