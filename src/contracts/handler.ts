import type { Feeds, ModelMetadata, Outputs } from '../tensors/tensor.js';
import type { ModelReference } from './model-reference.js';
import type { RequestHints } from './request-router.js';
import type { RunOptions } from './run-options.js';
import type { TraceContext } from './trace-context.js';

/**
 * The exports of a handler's module, by name or as its default. A handler runs in the replica's thread. It has a
 * `handle` or a `handleBatch`; with both, `handleBatch` takes the requests. Any other function that it exports is a
 * method: requests with its name as the option `method` go to it one by one, as to `handle`.
 */
export interface Handler {
  /**
   * Answers one request. Up to `maxOngoingRequests` calls are in progress at once; while one waits, another continues.
   *
   * @param request a copy of the caller's request.
   * @returns the caller's answer: anything that can be cloned. A view on a part of an ArrayBuffer is sent without the
   *   rest of the buffer. An async iterable or a generator is a stream: `engine.stream` gives its items one by one,
   *   `engine.run` gives the array of them.
   */
  handle?(request: unknown, context: HandlerContext): unknown;
  /**
   * Answers waiting requests in one call, at most `batching.maxSize`. The next call begins after this one.
   *
   * @param requests copies of the callers' requests. All name the same model, or none does.
   * @returns one answer for each request, in the same order. An `Error` in the list fails only the request in its
   *   place.
   */
  handleBatch?(requests: readonly unknown[], context: HandlerContext): unknown;
  /**
   * Loads the handler's own model for `context.getModel`. It counts toward `maxModelsPerReplica`. When it is evicted,
   * its `[Symbol.asyncDispose]`, `[Symbol.dispose]` or `dispose` is called.
   *
   * @returns the model; or `{ model, bytes }`, where `bytes` count toward `maxModelBytesPerReplica`.
   */
  loadModel?(id: string): unknown;
  /** Is called with the deployment's `userConfig`, if it has one: before the first request, and after each change. */
  reconfigure?(userConfig: unknown): unknown;
  /** Throws if the replica should be replaced. */
  checkHealth?(): unknown;
  /**
   * Returns a plain object with statistics of the replica, for routers and `engine.status()`. The deployment's option
   * `routingStats` sets how often it is called.
   */
  recordRoutingStats?(): unknown;
}

/** Functions of a handler that are no methods for requests. */
export const HANDLER_FUNCTIONS = [
  ...(['handle', 'handleBatch', 'loadModel', 'reconfigure', 'checkHealth', 'recordRoutingStats'] as const),
] as const satisfies readonly (keyof Handler)[];

/** What a handler can know of a request in addition to its content. */
export interface RequestTerms {
  /** `runOptions.requestId`, or a generated id. Requests that the handler makes get the same id. */
  readonly requestId: string;
  /** `runOptions.traceContext`. Requests that the handler makes have it, too. */
  readonly traceContext: TraceContext | undefined;
  /** `runOptions.method`. */
  readonly method: string | undefined;
  /** `runOptions.shardKey`. */
  readonly shardKey: string | undefined;
  /** `runOptions.labels`. */
  readonly labels: Readonly<Record<string, string>>;
  /** `runOptions.hints`. */
  readonly hints: RequestHints;
  /** `runOptions.priority`. */
  readonly priority: number;
  /** The request's deadline, in milliseconds as of `Date.now()`; undefined: none. */
  readonly deadline: number | undefined;
  /** Whether it is a copy for a shadow target, whose answer is discarded. */
  readonly isShadow: boolean;
}

/** Terms as they go to a replica: those that are not as by default. */
export type SentTerms = Partial<Omit<RequestTerms, 'isShadow'>>;

/** Milliseconds that a handler's functions may take; -1: no limit. */
export interface HandlerTimeouts {
  readonly loadModelMs: number;
  readonly disposeMs: number;
  readonly reconfigureMs: number;
}

export type LogFields = Readonly<Record<string, string | number | boolean>>;

/**
 * The options of a request that a handler makes. The nested request also ends with the signal and the deadline of the
 * handler's own request.
 */
export type NestedRunOptions = Omit<RunOptions, 'priority' | 'transfer' | 'waitForCapacityMs'>;

/** The engine, as a handler sees it. */
export interface HandlerEngine {
  /**
   * Runs a model, a deployment or an endpoint of the engine, through the calling thread. The request goes before
   * others, because the handler's own request occupies a replica while it waits.
   *
   * @param target as in `engine.run`.
   * @param request feeds of a model, or a request for a handler.
   * @throws InfermuxError by rejection, like `engine.run`; `FAILED_PRECONDITION` if handlers call each other more than
   *   16 levels deep.
   */
  run<Result = Outputs>(target: string, request: unknown, options?: NestedRunOptions): Promise<Result>;
}

/**
 * The second argument of {@link Handler.handle}, {@link Handler.handleBatch} and other methods: each call gets its own.
 * It has the options of the request; in a batch, of the first one.
 */
export interface HandlerContext extends RequestTerms {
  /** The options of all requests of the call, in their order: one, except in `handleBatch`. */
  readonly requests: readonly RequestTerms[];
  /** The replica that the handler runs in. */
  readonly replica: string;
  /** The model in the request's target, as in `engine.run('deployment/model', request)`. */
  readonly modelId: string | undefined;
  /** Aborted when no caller waits for an answer any more, and when the replica must stop at once. */
  readonly signal: AbortSignal;
  /** Runs models and handlers of other deployments and replicas. */
  readonly engine: HandlerEngine;
  /**
   * Runs a model of the engine in this replica, and loads it first if necessary. Calls of concurrent requests are
   * batched like requests for the model: see the deployment's `batching`.
   *
   * @param model a model id or `id@version`.
   * @param outputs names of the outputs to return. Default: all.
   * @throws InfermuxError by rejection, like `engine.run`.
   */
  run(model: string, feeds: Feeds, outputs?: readonly string[]): Promise<Outputs>;
  /**
   * Writes to the engine's logger at once. `console` output can appear late or not at all, because the thread sleeps
   * between requests.
   */
  log(level: 'debug' | 'info' | 'warn' | 'error', fields: LogFields, message: string): void;
  /**
   * Returns the handler's own model, from its `loadModel`; without a `loadModel`, the engine's model with that id, as a
   * {@link HandlerModel}. The model is not evicted before the request is answered.
   */
  getModel<T = HandlerModel>(id: string): Promise<T>;
}

/** A model of the engine, as `context.getModel` returns it. */
export interface HandlerModel extends ModelMetadata {
  readonly id: string;
  run(feeds: Feeds, outputs?: readonly string[]): Promise<Outputs>;
}

/** Ends the key of a handler's own model; no key of the engine's models ends like this. */
const OWN = ' (handler)';

/** The model key of a handler's requests that name no model. Every replica has it. */
export const NO_MODEL = OWN.trim();

/** Returns the reference by which requests for a handler's own model, or for no model, are routed. */
export function handlerModel(id: string | undefined): ModelReference {
  return { key: id === undefined ? NO_MODEL : `${id}${OWN}`, id: id ?? NO_MODEL, path: '', bytes: 0 };
}

/** Whether the key is that of a {@link handlerModel}. */
export function isHandlerKey(key: string): boolean {
  return key.endsWith(NO_MODEL);
}

/** Returns the name that a handler gave to a model of its own; another key as it is. */
export function nameOfOwn(key: string): string {
  return isHandlerKey(key) ? key.slice(0, -NO_MODEL.length).trimEnd() : key;
}
