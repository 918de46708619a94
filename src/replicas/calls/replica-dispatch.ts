import type { ModelReference } from '../../contracts/model-reference.js';
import type { GroupFeeds } from '../../protocol/request-groups.js';

/** Requests for one model that go in one message. */
export interface ReplicaDispatch {
  readonly model: ModelReference;
  readonly groups: readonly ReplicaGroup[];
  /** Keys of models that may be evicted before others, should the model need room. */
  readonly spare: readonly string[];
  /** Compare batches with single runs. */
  readonly verify: boolean;
}

/** Requests that are alike: feeds of the model, or what a handler is given. */
export interface ReplicaGroup extends GroupFeeds {
  /** One for each request, and then all feeds are empty; undefined where there is no handler. */
  readonly payloads?: readonly HandlerPayload[] | undefined;
}

/** What a handler is given. */
export interface HandlerPayload {
  readonly value: unknown;
  /** Aborted when nobody wants the answer any more. */
  readonly abandoned: AbortSignal;
}
