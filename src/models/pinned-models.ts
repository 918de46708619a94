import { type InfermuxError, toInfermuxError } from '../common/errors.js';
import type { ModelCatalog } from './model-catalog.js';
import type { LoadOrder, ModelLoader } from './model-loader.js';
import type { ModelReplica, ModelReplicas } from './model-replicas.js';
import { nameOf, type RegisteredModel } from './registered-model.js';
import { type Pin, SavedPins } from './saved-pins.js';

export interface PinnedModelsEnvironment {
  readonly catalog: ModelCatalog;
  readonly replicas: ModelReplicas;
  readonly loader: ModelLoader;
  /** Writes the pins of callers to the checkpoint. */
  savePins(pins: readonly Pin[]): Promise<void>;
  /** A pinned model could not be loaded on this replica. */
  failed(model: RegisteredModel, replica: ModelReplica, error: InfermuxError): void;
}

/** Keeps pinned models loaded: models whose `model.json` says so, and models that a caller has pinned. */
export class PinnedModels {
  readonly #environment: PinnedModelsEnvironment;
  readonly #catalog: ModelCatalog;
  readonly #replicas: ModelReplicas;
  readonly #loader: ModelLoader;
  readonly #pins: SavedPins;

  constructor(environment: PinnedModelsEnvironment) {
    this.#environment = environment;
    this.#catalog = environment.catalog;
    this.#replicas = environment.replicas;
    this.#loader = environment.loader;
    this.#pins = new SavedPins((pins) => environment.savePins(pins));
  }

  /** Takes over the pins of a checkpoint. {@link load} loads their models. */
  restore(pins: readonly Pin[]): void {
    this.#pins.restore(pins);
  }

  /**
   * Pins the model, then loads it. From then on it is loaded again when a replica that had it is replaced. When the
   * load fails, the earlier pin is restored, or none.
   *
   * @param target the model's name as the caller wrote it.
   * @throws InfermuxError as {@link ModelLoader.load}.
   */
  async pin(model: RegisteredModel, target: string, order: LoadOrder): Promise<void> {
    const { deployment, replicas } = order;
    const pin: Pin = { target, deployment, replicas };
    const before = this.#pins.find(pin);
    await this.#pins.replace(pin, pin);
    try {
      await this.#loader.load(model, order);
    } catch (error) {
      // Another call may have pinned it meanwhile; that pin stays.
      if (this.#pins.find(pin) === pin) await this.#pins.replace(pin, before);
      throw error;
    }
  }

  /** Removes the pins of the model. */
  unpin(model: RegisteredModel): Promise<void> {
    return this.#pins.remove(({ target }) => this.#catalog.find(target) === model);
  }

  /** Removes the pins of all versions of the id. */
  unpinId(id: string): Promise<void> {
    return this.#pins.remove(({ target }) => target.split('@')[0] === id);
  }

  /** Removes the pins in the deployment. */
  unpinDeployment(name: string): Promise<void> {
    return this.#pins.remove(({ deployment }) => deployment === name);
  }

  /** Names of the models that callers have pinned. */
  get targets(): string[] {
    return this.#pins.all.map(({ target }) => target);
  }

  has(model: RegisteredModel): boolean {
    if (model.isPinned || this.#loader.pins(model.key) > 0) return true;
    return this.#pins.all.some(({ target }) => this.#catalog.find(target) === model);
  }

  /** Whether one of the id's versions is pinned. */
  hasId(id: string): boolean {
    return this.#catalog.entry(id)?.served.some((model) => this.has(model)) === true;
  }

  /** Loads pinned models wherever they are missing. Failures are reported to the environment. */
  async load(): Promise<void> {
    await Promise.all(this.#replicas.running().map((replica) => this.loadOn(replica)));
  }

  /** {@link load} on one replica. */
  async loadOn(replica: ModelReplica): Promise<void> {
    for (const model of this.#missingOn(replica)) {
      // Another model may have taken its place during the loads before it.
      if (this.#catalog.find(nameOf(model)) !== model) continue;
      await this.#loader
        .pinOn(replica, model)
        .catch((cause: unknown) => this.#environment.failed(model, replica, toInfermuxError(cause)));
    }
  }

  *#missingOn(replica: ModelReplica): IterableIterator<RegisteredModel> {
    const wanted = new Map<RegisteredModel, number | 'all'>();
    for (const model of this.#catalog.models) if (model.isPinned) wanted.set(model, 'all');
    for (const { target, deployment, replicas } of this.#pins.all) {
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
