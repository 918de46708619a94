import type { RequestHints } from './request-router.js';
import type { TraceContext } from './trace-context.js';

/** The terms of one request. */
export interface RunOptions {
  /**
   * Aborting it rejects the call with `CANCELLED`. A run under way still ends, and its answer is dropped. Many requests
   * may share a signal: its limit of listeners is lifted, and when it is aborted, none of them is begun any more, and
   * their calls are rejected in portions, over several turns of the event loop. Default: none.
   */
  readonly signal?: AbortSignal | undefined;
  /**
   * Milliseconds from now after which the call is rejected with `DEADLINE_EXCEEDED`. -1: no limit. Default: the
   * deployment's `defaultTimeoutMs`; with a `deadline`, only that counts.
   */
  readonly timeoutMs?: number | undefined;
  /** The same limit as a time, in milliseconds as of `Date.now()`. The earlier of the two counts. Default: none. */
  readonly deadline?: number | undefined;
  /**
   * An integer. Among the requests of a model, a higher priority goes first: while such requests never cease, those
   * with a lower priority wait. Other models are not held up: models take turns, or go in the order of arrival (`order:
   * 'fifo'`), whatever the priorities. Default 0.
   */
  readonly priority?: number | undefined;
  /** Names of the outputs to return. Default: all. */
  readonly outputs?: readonly string[] | undefined;
  /**
   * Takes over the arrays of the feeds instead of copying them: the caller's arrays are empty once the request is
   * accepted. An array that covers only a part of its ArrayBuffer is copied all the same. If the replica dies, the
   * request fails with `REPLICA_FAILED`, because nobody else has the arrays. Default false.
   */
  readonly transfer?: boolean | undefined;
  /** The deployment that answers. Default: the one that the target names, otherwise the one named `default`. */
  readonly deployment?: string | undefined;
  /**
   * Requests for an endpoint with the same key go to the same target while the endpoint's weights stay the same; with
   * the router `consistent-hash`, to the same replica. Default: none.
   */
  readonly shardKey?: string | undefined;
  /** Names and values for routers: `rankReplicasViaLocality` reads `device` and `group`. Default: none. */
  readonly labels?: Readonly<Record<string, string>> | undefined;
  /**
   * What routers and handlers may know of the request: tokens, cost, tenant. At most 1,024 strings, numbers and booleans.
   * Default: none.
   */
  readonly hints?: RequestHints | undefined;
  /** For handlers: names the request. Default: one of its own, which the handler sees as `context.requestId`. */
  readonly requestId?: string | undefined;
  /** For handlers: which trace the request is part of. Requests that the handler makes are part of it, too. Default: none. */
  readonly traceContext?: TraceContext | undefined;
  /** For handlers: the function of the handler's module that takes the request, in place of `handle`. Default: none. */
  readonly method?: string | undefined;
  /**
   * Milliseconds for which the request may wait for somebody who can take it, instead of being refused at once: where the
   * deployment has no replicas, or does not exist yet, or the target is no endpoint and no model yet. Of `timeoutMs` it is a
   * part. Default 0.
   */
  readonly waitForCapacityMs?: number | undefined;
}

/** The terms of a request for a model that has outputs of these names. */
export type ModelRunOptions<Name extends string> = Omit<RunOptions, 'outputs'> & {
  readonly outputs?: readonly Name[] | undefined;
};
