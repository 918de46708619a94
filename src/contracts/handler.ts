import type { Feeds, Outputs, ValueMetadata } from '../tensors/tensor.js';
import type { ModelReference } from './model-reference.js';

/** What a handler's module exports, by name or as its default. It runs in the replica's thread. */
export interface Handler {
  /**
   * Answers one request.
   *
   * @param request what the caller gave; a copy.
   * @returns what the caller gets: anything that can be cloned.
   */
  handle(request: unknown, context: HandlerContext): unknown;
  /**
   * Loads a model of the handler's own, for `context.getModel`. It counts as one of `maxModelsPerReplica`; when it leaves, its
   * `[Symbol.asyncDispose]`, `[Symbol.dispose]` or `dispose` is called.
   */
  loadModel?(id: string): unknown;
  /** Takes the deployment's `userConfig`, if it has one: before the first request, and whenever it is another. */
  reconfigure?(userConfig: unknown): unknown;
  /** Throws when the replica should be replaced. */
  checkHealth?(): unknown;
  /**
   * A plain object that tells how the replica fares, for routers and `engine.status()`: the last one counts. Called as the
   * deployment's option `routingStats` says.
   */
  recordRoutingStats?(): unknown;
}

export type LogFields = Readonly<Record<string, string | number | boolean>>;

/** What a handler is given with each request. */
export interface HandlerContext {
  /** The replica that it runs in. */
  readonly replica: string;
  /** The model that the request names, as in `engine.run('deployment/model', request)`. */
  readonly modelId: string | undefined;
  /** Aborted when the caller no longer wants the answer, and when the replica is to stop at once. */
  readonly signal: AbortSignal;
  /**
   * Runs a model of the engine in this replica, and loads it if need be.
   *
   * @param model a model id or `id@version`.
   * @param outputs names of the outputs to return. Default: all.
   * @throws InfermuxError by rejection, as `engine.run`.
   */
  run(model: string, feeds: Feeds, outputs?: readonly string[]): Promise<Outputs>;
  /**
   * Writes to the engine's logger, at once; what goes to the console may come late, or not at all, since the thread sleeps
   * between requests.
   */
  log(level: 'debug' | 'info' | 'warn' | 'error', fields: LogFields, message: string): void;
  /**
   * The handler's own model, by its `loadModel`; without one the engine's model of that id, as a {@link HandlerModel}. It is
   * not evicted before the request is answered.
   */
  getModel<T = HandlerModel>(id: string): Promise<T>;
}

/** A model of the engine, as `context.getModel` gives it. */
export interface HandlerModel {
  readonly id: string;
  readonly inputs: readonly ValueMetadata[];
  readonly outputs: readonly ValueMetadata[];
  run(feeds: Feeds, outputs?: readonly string[]): Promise<Outputs>;
}

/** No key of a model of the engine ends like this. */
const OWN = ' (handler)';

/** Stands for requests of a handler that name no model: every replica has it. */
export const NO_MODEL = OWN.trim();

/** A model that only the handler knows, or none, as requests for it are routed. */
export function handlerModel(id: string | undefined): ModelReference {
  return { key: id === undefined ? NO_MODEL : `${id}${OWN}`, id: id ?? NO_MODEL, path: '', bytes: 0 };
}

/** Whether the key is that of a {@link handlerModel}. */
export function isHandlerKey(key: string): boolean {
  return key.endsWith(NO_MODEL);
}
