import { type InfermuxError, toInfermuxError } from '../../common/errors.js';
import type { JoinedSearch } from '../../models/finder/model-search.js';
import type { ManagedModels } from '../../models/managed-models.js';
import type { RegisteredModel } from '../../models/registered-model.js';
import { type RoutedModel, soughtModel } from '../../routing/pending-request.js';
import type { SoughtRequests } from '../../routing/queues/sought-requests.js';

/** Has the models looked for that requests of one deployment wait for. */
export class SoughtModels {
  readonly #managed: () => ManagedModels;
  readonly #requests: () => SoughtRequests;
  readonly #explained: (error: InfermuxError) => InfermuxError;
  readonly #found: () => void;
  /** The deployment's part in searches, by the key of the model that is looked for. */
  readonly #joined = new Map<string, JoinedSearch>();

  /** @param requests those that wait. @param explained adds what else the name could have meant. @param found requests go to a replica now. */
  constructor(
    managed: () => ManagedModels,
    requests: () => SoughtRequests,
    explained: (error: InfermuxError) => InfermuxError,
    found: () => void,
  ) {
    this.#explained = explained;
    this.#found = found;
    this.#managed = managed;
    this.#requests = requests;
  }

  sought({ key, id }: RoutedModel): void {
    const joined = this.#managed().search.join(id);
    this.#joined.set(key, joined);
    const end = () => {
      if (this.#joined.get(key) !== joined) return false;
      this.#joined.delete(key);
      joined.leave();
      return true;
    };
    joined.found.then(
      (model) => {
        if (!end()) return;
        this.#found();
        this.#requests().found(key, model);
      },
      (cause: unknown) => {
        if (end()) this.#requests().failed(key, this.#explained(toInfermuxError(cause)));
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
    if (model.isFound !== true || model.contents !== undefined) return this.#managed().catalog.successorOf(model);
    const instead = this.#managed().search.insteadOf(model);
    return typeof instead === 'string' ? soughtModel(instead) : instead;
  }
}
