import { toInfermuxError } from '../../common/errors.js';
import type { JoinedSearch } from '../../models/finder/model-search.js';
import type { ModelManager } from '../../models/model-manager.js';
import type { RegisteredModel } from '../../models/registered-model.js';
import { type RoutedModel, soughtModel } from '../../routing/pending-request.js';
import type { SoughtRequests } from '../../routing/queues/sought-requests.js';

/** Has the models looked for that requests of one deployment wait for. */
export class SoughtModels {
  readonly #models: () => ModelManager;
  readonly #requests: () => SoughtRequests;
  /** The deployment's part in searches, by the key of the model that is looked for. */
  readonly #joined = new Map<string, JoinedSearch>();

  /** @param requests those that wait. */
  constructor(models: () => ModelManager, requests: () => SoughtRequests) {
    this.#models = models;
    this.#requests = requests;
  }

  sought({ key, id }: RoutedModel): void {
    const joined = this.#models().search?.join(id);
    if (joined === undefined) return;
    this.#joined.set(key, joined);
    const end = () => {
      if (this.#joined.get(key) !== joined) return false;
      this.#joined.delete(key);
      joined.leave();
      return true;
    };
    joined.found.then(
      (model) => {
        if (end()) this.#requests().found(key, model);
      },
      (cause: unknown) => {
        if (end()) this.#requests().failed(key, toInfermuxError(cause));
      },
    );
  }

  unsought({ key }: RoutedModel): void {
    const joined = this.#joined.get(key);
    this.#joined.delete(key);
    joined?.leave();
  }

  /** As {@link DispatcherObserver.insteadOf}. */
  insteadOf(routed: RoutedModel): RoutedModel | undefined {
    const model = routed as RegisteredModel;
    if (model.isFound !== true || model.contents !== undefined) return undefined;
    const instead = this.#models().search?.insteadOf(model);
    return typeof instead === 'string' ? soughtModel(instead) : instead;
  }
}
