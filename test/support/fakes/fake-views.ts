import type { PendingRequestView, ReplicaView } from '../../../dist/contracts/request-router.js';
import type { IndexedReplica } from '../../../dist/routing/placement/replicas/replica-index.js';

/** A replica as routers see it, with what a test says of it. */
export function fakeView(id: string, own: Partial<ReplicaView> = {}): IndexedReplica {
  const view: IndexedReplica = {
    isTrying: (modelKey) => view.models.get(modelKey) === 'loading',
    ...{ id, deployment: 'default', labels: {}, ongoing: 0, capacity: Number.POSITIVE_INFINITY, models: new Map() },
    ...{ freeBytes: Number.POSITIVE_INFINITY, freeModels: Number.POSITIVE_INFINITY, expectedWorkMs: 0 },
    routingStats: { throughput: 0, runMs: 0, loadMs: 0 },
    ...own,
  };
  return view;
}

export function fakeRequestView(model: string, own: Partial<PendingRequestView> = {}): PendingRequestView {
  return {
    ...{ id: 0, model, modelKey: model, priority: 0, shardKey: undefined, labels: {}, waitedMs: 0, queued: 1 },
    ...{ hints: {}, inputBytes: 0, rows: 1 },
    ...{ totalWaitedMs: 0, expectedDrainMs: 0, modelBytes: 1, expectedRunMs: 1, expectedLoadMs: 10 },
    ...own,
  };
}
