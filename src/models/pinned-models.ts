import { type InfermuxError, toInfermuxError } from '../common/errors.js';
import type { ModelCatalog } from './model-catalog.js';
import type { ModelLoader } from './model-loader.js';
import type { ModelReplica, ModelReplicas } from './model-replicas.js';
import { nameOf, type RegisteredModel } from './registered-model.js';

type Replicas = number | 'all';

/** That so many replicas of a deployment are to keep a model. */
export interface Pin {
  /** What the caller named it. */
  readonly target: string;
  readonly deployment: string;
  readonly replicas: Replicas;
}

/** Keeps pinned models where they are to be: those that say so themselves, and those that a caller has pinned. */
export class PinnedModels {
  readonly #catalog: ModelCatalog;
  readonly #replicas: ModelReplicas;
  readonly #loader: ModelLoader;
  readonly #onFailure: (model: RegisteredModel, replica: ModelReplica, error: InfermuxError) => void;
  #pins: readonly Pin[] = [];

  constructor(
    { catalog, replicas, loader }: { catalog: ModelCatalog; replicas: ModelReplicas; loader: ModelLoader },
    onFailure: (model: RegisteredModel, replica: ModelReplica, error: InfermuxError) => void,
  ) {
    this.#catalog = catalog;
    this.#replicas = replicas;
    this.#loader = loader;
    this.#onFailure = onFailure;
  }

  /** What callers have pinned. */
  get pins(): readonly Pin[] {
    return this.#pins;
  }

  /** One of the same target and deployment. */
  find(pin: Pin): Pin | undefined {
    return this.#pins.find((other) => isSame(other, pin));
  }

  /** The pins with this one in the place of one of the same target and deployment, or with none there. */
  with(pin: Pin, wanted: Pin | undefined): readonly Pin[] {
    return [...this.#pins.filter((other) => !isSame(other, pin)), ...(wanted === undefined ? [] : [wanted])];
  }

  /** The pins without those of that id. */
  withoutId(id: string): readonly Pin[] {
    return this.#pins.filter(({ target }) => target.split('@')[0] !== id);
  }

  /** The pins without those of the model. */
  without(model: RegisteredModel): readonly Pin[] {
    return this.#pins.filter(({ target }) => this.#catalog.find(target) !== model);
  }

  /** From now on they are loaded again where a replica that had them is replaced. */
  set(pins: readonly Pin[]): void {
    this.#pins = pins;
  }

  has(model: RegisteredModel): boolean {
    if (model.isPinned || this.#loader.pins(model.key) > 0) return true;
    return this.#pins.some(({ target }) => this.#catalog.find(target) === model);
  }

  /** Whether one of the id's versions is pinned. */
  hasId(id: string): boolean {
    return this.#catalog.entry(id)?.served.some((model) => this.has(model)) === true;
  }

  /** Resolves when they are loaded where they were not; failures are told. */
  async load(): Promise<void> {
    await Promise.all(this.#replicas.running().map((replica) => this.loadOn(replica)));
  }

  async loadOn(replica: ModelReplica): Promise<void> {
    for (const model of this.#missingOn(replica)) {
      // Another one may have taken its place while those before it were loaded.
      if (this.#catalog.find(nameOf(model)) !== model) continue;
      await this.#loader
        .pinOn(replica, model)
        .catch((cause: unknown) => this.#onFailure(model, replica, toInfermuxError(cause)));
    }
  }

  *#missingOn(replica: ModelReplica): IterableIterator<RegisteredModel> {
    const wanted = new Map<RegisteredModel, Replicas>();
    for (const model of this.#catalog.models) if (model.isPinned) wanted.set(model, 'all');
    for (const { target, deployment, replicas } of this.#pins) {
      const model = deployment === replica.deployment ? this.#catalog.find(target) : undefined;
      if (model !== undefined) wanted.set(model, wanted.get(model) ?? replicas);
    }
    for (const [model, replicas] of wanted) {
      if (this.#loader.isPinnedOn(model.key, replica)) continue;
      if (replicas === 'all' || this.#pinsIn(replica.deployment, model.key) < replicas) yield model;
    }
  }

  #pinsIn(deployment: string, key: string): number {
    const replicas = this.#replicas.running().filter((replica) => replica.deployment === deployment);
    return replicas.filter((replica) => this.#loader.isPinnedOn(key, replica)).length;
  }
}

function isSame(left: Pin, right: Pin): boolean {
  return left.target === right.target && left.deployment === right.deployment;
}
