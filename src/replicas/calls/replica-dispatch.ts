import type { ModelReference } from '../../contracts/model-reference.js';
import type { GroupFeeds } from '../../protocol/request-groups.js';

/** Requests for one model that go in one message. */
export interface ReplicaDispatch {
  readonly model: ModelReference;
  readonly groups: readonly ReplicaGroup[];
  /** Keys of models that may be evicted before others, if the model needs room. */
  readonly spare: readonly string[];
  /** Whether batches are compared with single runs. */
  readonly verify: boolean;
}

/** Requests of the same kind: feeds of a model, or payloads for a handler. */
export interface ReplicaGroup extends GroupFeeds {
  /** One for each request, with empty feeds; undefined without a handler. */
  readonly payloads?: readonly HandlerPayload[] | undefined;
}

/** A request for a handler. */
export interface HandlerPayload {
  readonly value: unknown;
  /** Aborted when nobody needs the answer any more. */
  readonly abandoned: AbortSignal;
}
