import type { SentTerms } from '../../contracts/handler.js';
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
  /** Set while a replica has it. Called when nobody needs the answer any more. */
  abandoned: (() => void) | undefined;
  /** The targets of the requests within which it was made, the outermost first, and its own. */
  readonly path: readonly string[];
  /** Whether nobody reads the answer. */
  readonly isShadow: boolean;
  /** Clock time by which its caller needs the answer. */
  readonly deadline: number | undefined;
  /** Takes the items of a stream; undefined when the answer goes as a whole. */
  readonly stream: ItemSink | undefined;
  /** What the handler is told of it; undefined when all is as by default. */
  readonly terms: SentTerms | undefined;
}

/** Takes the items of a handler's stream. */
export interface ItemSink {
  /** Items that the replica may send before any of them is taken. */
  readonly ahead: number;
  /** The request was given to a replica. @param pull tells it that so many items were taken. */
  connected(pull: (items: number) => void): void;
  deliver(items: readonly unknown[]): void;
}
