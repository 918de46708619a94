import { wideKeyOf } from '../../contracts/model-reference.js';
import type { ModelManagerEnvironment, ModelManagerOptions } from '../model-manager-environment.js';
import type { RegisteredModel } from '../registered-model.js';
import { FollowedModels, type FollowedModelsEnvironment } from '../repository/followed-models.js';
import type { Finders } from './finders.js';
import { ModelSearch } from './model-search.js';
import type { NearModels } from './near-search.js';

/** Returns what looks for models: in the directory first, then with a finder. */
export function createSearch(
  finders: Finders,
  { modelCache: cache, repository }: ModelManagerOptions,
  environment: ModelManagerEnvironment,
  followable: FollowedModelsEnvironment,
  near: NearModels,
): ModelSearch {
  const { catalog, loader, replicas, pinned, clock, log } = followable;
  const hasSession = ({ key }: RegisteredModel) =>
    replicas.withSessions().some(({ models }) => models.has(key) || models.has(wideKeyOf(key)));
  return new ModelSearch(
    { finders, cache, mayPin: repository.pinned },
    {
      ...{ catalog, clock, log, near, startThread: environment.startThread },
      follow: (found) => new FollowedModels(found, { ...repository, settleMs: 0, pollMs: 0 }, followable, 'finder'),
      isLoaded: ({ key }) => replicas.withSessions().some(({ models }) => models.get(key) === 'loaded'),
      retired: async ({ key }) => {
        await replicas.untilUnused(key);
        await loader.unload(key, 'unloaded');
      },
      unpin: (id) => pinned.unpinId(id),
      isInUse: (model) =>
        hasSession(model) || loader.isLoading(model.key) || replicas.isWaitedFor(model.key) || pinned.has(model),
      received: (bytes) => environment.received(bytes),
      searched: (outcome, milliseconds) => environment.searched(outcome, milliseconds),
    },
  );
}
