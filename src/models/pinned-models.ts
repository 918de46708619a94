import { type InfermuxError, toInfermuxError } from '../errors.js';
import type { ModelCatalog } from './model-catalog.js';
import type { ModelHost, ModelHosts } from './model-host.js';
import type { ModelLoader } from './model-loader.js';
import { nameOf, type RegisteredModel } from './registered-model.js';

type Replicas = number | 'all';

/** Keeps pinned models where they are to be: those that say so themselves, and those that a caller has pinned. */
export class PinnedModels {
  readonly #catalog: ModelCatalog;
  readonly #hosts: ModelHosts;
  readonly #loader: ModelLoader;
  readonly #onFailure: (model: RegisteredModel, host: ModelHost, error: InfermuxError) => void;
  /** How many replicas are to keep it, by what the caller named it. */
  readonly #pins = new Map<string, Replicas>();

  constructor(
    { catalog, hosts, loader }: { catalog: ModelCatalog; hosts: ModelHosts; loader: ModelLoader },
    onFailure: (model: RegisteredModel, host: ModelHost, error: InfermuxError) => void,
  ) {
    this.#catalog = catalog;
    this.#hosts = hosts;
    this.#loader = loader;
    this.#onFailure = onFailure;
  }

  /** From now on it is loaded again where one of its replicas is replaced. */
  pin(target: string, replicas: Replicas): void {
    this.#pins.set(target, replicas);
  }

  /** There is no model of that id any more. */
  forget(id: string): void {
    for (const target of this.#pins.keys()) if (target.split('@')[0] === id) this.#pins.delete(target);
  }

  /** No caller has pinned it any more. */
  unpin(model: RegisteredModel): void {
    for (const target of this.#pins.keys()) if (this.#catalog.find(target) === model) this.#pins.delete(target);
  }

  has(model: RegisteredModel): boolean {
    if (model.isPinned || this.#loader.pins(model.key) > 0) return true;
    return [...this.#pins.keys()].some((target) => this.#catalog.find(target) === model);
  }

  /** Whether one of the id's versions is pinned. */
  hasId(id: string): boolean {
    return this.#catalog.entry(id)?.served.some((model) => this.has(model)) === true;
  }

  /** Resolves when they are loaded where they were not; failures are told. */
  async load(): Promise<void> {
    await Promise.all(this.#hosts.running().map((host) => this.loadOn(host)));
  }

  async loadOn(host: ModelHost): Promise<void> {
    for (const model of this.#missingOn(host)) {
      // Another one may have taken its place while those before it were loaded.
      if (this.#catalog.find(nameOf(model)) !== model) continue;
      await this.#loader
        .pinOn(host, model)
        .catch((cause: unknown) => this.#onFailure(model, host, toInfermuxError(cause)));
    }
  }

  *#missingOn(host: ModelHost): IterableIterator<RegisteredModel> {
    const wanted = new Map<RegisteredModel, Replicas>();
    for (const model of this.#catalog.models) if (model.isPinned) wanted.set(model, 'all');
    for (const [target, replicas] of this.#pins) {
      const model = this.#catalog.find(target);
      if (model !== undefined) wanted.set(model, wanted.get(model) ?? replicas);
    }
    for (const [model, replicas] of wanted) {
      if (this.#loader.isPinnedOn(model.key, host)) continue;
      if (replicas === 'all' || this.#loader.pins(model.key) < replicas) yield model;
    }
  }
}
