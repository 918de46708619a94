import type { Feeds, ModelMetadata, Outputs } from '../tensors/tensor.js';
import type { ModelReference } from './model-reference.js';

/** The exports of a handler's module, by name or as its default. A handler runs in the replica's thread. */
export interface Handler {
  /**
   * Answers one request.
   *
   * @param request a copy of the caller's request.
   * @returns the caller's answer: anything that can be cloned. A view on a part of an ArrayBuffer is sent without the
   *   rest of the buffer.
   */
  handle(request: unknown, context: HandlerContext): unknown;
  /**
   * Loads a model of the handler's own, for `context.getModel`. The model counts as one of `maxModelsPerReplica`. When
   * it leaves the cache, its `[Symbol.asyncDispose]`, `[Symbol.dispose]` or `dispose` is called.
   */
  loadModel?(id: string): unknown;
  /** Takes the deployment's `userConfig`, if it has one: before the first request, and after each change. */
  reconfigure?(userConfig: unknown): unknown;
  /** Throws when the replica should be replaced. */
  checkHealth?(): unknown;
  /**
   * Returns a plain object of statistics of the replica, for routers and `engine.status()`; the last one counts. The
   * deployment's option `routingStats` says when it is called.
   */
  recordRoutingStats?(): unknown;
}

export type LogFields = Readonly<Record<string, string | number | boolean>>;

/** The second argument of {@link Handler.handle}. */
export interface HandlerContext {
  /** The replica that the handler runs in. */
  readonly replica: string;
  /** The model that the request names, as in `engine.run('deployment/model', request)`. */
  readonly modelId: string | undefined;
  /** Aborted when the caller no longer wants the answer, and when the replica has to stop at once. */
  readonly signal: AbortSignal;
  /**
   * Runs a model of the engine in this replica, and loads it first if it is cold.
   *
   * @param model a model id or `id@version`.
   * @param outputs names of the outputs to return. Default: all.
   * @throws InfermuxError by rejection, like `engine.run`.
   */
  run(model: string, feeds: Feeds, outputs?: readonly string[]): Promise<Outputs>;
  /**
   * Writes to the engine's logger at once. Output to the console may appear late or not at all, because the thread
   * sleeps between requests.
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
