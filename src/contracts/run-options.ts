import type { FeedsOf } from '../tensors/model-types.js';
import type { RequestHints } from './request-router.js';
import type { TraceContext } from './trace-context.js';

/** The options of one request. */
export interface RunOptions {
  /**
   * Aborting it rejects the call with `CANCELLED`. A run in progress continues, and its result is discarded. Many
   * requests can share one signal: infermux removes its limit of listeners (`setMaxListeners`). After an abort, no
   * waiting request starts. With very many requests, the rejections are spread over several turns of the event loop.
   * Default: none.
   */
  readonly signal?: AbortSignal | undefined;
  /**
   * Milliseconds from now after which the call is rejected with `DEADLINE_EXCEEDED`. -1: no limit. Default: no limit if
   * `deadline` is set, otherwise the deployment's `defaultTimeoutMs`. If both are set, the earlier one applies.
   */
  readonly timeoutMs?: number | undefined;
  /**
   * The time by which the answer is needed, in milliseconds, like `Date.now() + 500`. If `timeoutMs` is set too, the
   * earlier one applies. Default: none.
   */
  readonly deadline?: number | undefined;
  /**
   * An integer. Among the requests for one model, a higher priority goes first. If such requests never stop, those with
   * a lower priority wait forever. Other models are not delayed: models take turns, or go in the order of arrival
   * (`order: 'fifo'`), regardless of priorities. Default 0.
   */
  readonly priority?: number | undefined;
  /** Names of the outputs to return. Default: all. */
  readonly outputs?: readonly string[] | undefined;
  /**
   * Transfers the arrays of the feeds instead of copying them: the caller's arrays are empty when the request is
   * accepted. An array that covers only a part of its ArrayBuffer is copied nevertheless. If the replica dies, the
   * request fails with `REPLICA_FAILED`, because there is no copy of the arrays. Default false.
   */
  readonly transfer?: boolean | undefined;
  /** The deployment that answers. Default: the one in the target, or `default`. */
  readonly deployment?: string | undefined;
  /**
   * Requests for an endpoint with the same key go to the same target while the endpoint's weights stay the same; with
   * the router `consistent-hash`, to the same replica. Default: none.
   */
  readonly shardKey?: string | undefined;
  /** Names and values for routers: `rankReplicasViaLocality` reads `device` and `group`. Default: none. */
  readonly labels?: Readonly<Record<string, string>> | undefined;
  /**
   * Facts about the request for routers and handlers, such as tokens, cost or tenant. At most 1,024 strings, numbers
   * and booleans. Default: none.
   */
  readonly hints?: RequestHints | undefined;
  /** For handlers: the id of the request, `context.requestId`. Default: a generated id. */
  readonly requestId?: string | undefined;
  /**
   * For handlers: the trace that the request belongs to. Requests that the handler makes belong to it too. Default:
   * none.
   */
  readonly traceContext?: TraceContext | undefined;
  /** For handlers: the function of the module that gets the request instead of `handle`. Default: none. */
  readonly method?: string | undefined;
  /**
   * Maximum milliseconds to wait until the target can accept the request, instead of being refused at once: if the
   * deployment has no replicas or does not exist yet, or if there is no endpoint or model with this name yet. This time
   * counts toward `timeoutMs`. Default 0.
   */
  readonly waitForCapacityMs?: number | undefined;
}

/** The options of a request for a model that has outputs of these names. */
export type ModelRunOptions<Name extends string> = Omit<RunOptions, 'outputs'> & {
  readonly outputs?: readonly Name[] | undefined;
};

/** A request for a model, with its options. */
export type ModelRequest<Models, Target extends string, Name extends string> = ModelRunOptions<Name> & {
  readonly target: Target;
  readonly feeds: FeedsOf<Models, Target>;
};
