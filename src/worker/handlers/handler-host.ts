import { isObject } from '../../common/checks.js';
import { settlesWithin, systemClock } from '../../common/clock.js';
import { InfermuxError, messageOf, show, withStackOf } from '../../common/errors.js';
import { SerialQueue } from '../../common/serial-queue.js';
import {
  type Handler,
  type HandlerContext,
  handlerModel,
  isHandlerKey,
  type LogFields,
  NO_MODEL,
} from '../../contracts/handler.js';
import type { ModelReference } from '../../contracts/model-reference.js';
import { BUILT_IN_STATS } from '../../contracts/request-router.js';
import { toErrorRecord } from '../../protocol/error-record.js';
import type { CallAnswer, HandlerAbilities, HandlerRequest } from '../../protocol/messages.js';
import { checkFeeds, checkOutputNames, readFeeds } from '../../tensors/feeds.js';
import type { Feeds, Outputs, TensorFeeds } from '../../tensors/tensor.js';
import type { HeldLease, ModelMultiplexer } from '../sessions/model-multiplexer.js';
import type { Session, SessionLoader } from '../sessions/session.js';

export interface HandlerEnvironment {
  readonly replica: string;
  /** Finds a model of the engine by what people call it. */
  resolve(target: string): Promise<ModelReference>;
  /** Whether the thread is to begin nothing more. */
  isStopping(): boolean;
  log(level: 'debug' | 'info' | 'warn' | 'error', fields: LogFields, message: string): void;
  now(): number;
}

/** What one request has taken, to be given back when it is answered. */
interface Holdings {
  readonly leases: HeldLease[];
  /** What is got after that is given back at once. */
  isOver: boolean;
}

/** Loads the handler's own models, and leaves the engine's to another. */
export class HandlerModelLoader implements SessionLoader {
  readonly #handler: Handler;
  readonly #others: SessionLoader;

  constructor(handler: Handler, others: SessionLoader) {
    this.#handler = handler;
    this.#others = others;
  }

  /** @throws InfermuxError `MODEL_LOAD_FAILED` with what the handler threw. */
  async load(model: ModelReference): Promise<Session> {
    if (!isHandlerKey(model.key)) return this.#others.load(model);
    try {
      const loaded = (async () => this.#handler.loadModel?.(model.id))();
      if (!(await settlesWithin(systemClock, loaded, LOAD_TIMEOUT_MS)))
        throw new Error(`not within ${LOAD_TIMEOUT_MS} ms`);
      return new OwnModel(await loaded);
    } catch (cause) {
      const message = `the handler could not load model ${show(model.id)}: ${messageOf(cause)}`;
      throw new InfermuxError('MODEL_LOAD_FAILED', message, { cause });
    }
  }
}

/** What takes longer to come, or to go, is not waited for: others wait for its place. */
const LOAD_TIMEOUT_MS = 60_000;
const DISPOSE_TIMEOUT_MS = 10_000;

/** Whatever a handler's `loadModel` returned, in the place of a session. */
class OwnModel implements Session {
  readonly metadata = { inputs: [], outputs: [] };
  readonly value: unknown;

  constructor(value: unknown) {
    this.value = value;
  }

  async run(): Promise<Outputs> {
    throw new InfermuxError('INTERNAL', 'a model of the handler was run as one of the engine');
  }

  async release(): Promise<void> {
    if (await settlesWithin(systemClock, this.#dispose(), DISPOSE_TIMEOUT_MS)) return;
    throw new Error(`it was not disposed of within ${DISPOSE_TIMEOUT_MS} ms`);
  }

  async #dispose(): Promise<void> {
    const model = this.value as Partial<Record<PropertyKey, unknown>> | null | undefined;
    const name = [Symbol.asyncDispose, Symbol.dispose, 'dispose'].find((key) => typeof model?.[key] === 'function');
    if (model && name !== undefined) await (model[name] as () => unknown)();
  }
}

/** Gives requests to a handler, with what it needs of the replica. */
export class HandlerHost {
  readonly #handler: Handler;
  readonly #models: ModelMultiplexer;
  readonly #environment: HandlerEnvironment;
  /** By ticket: what its caller can cancel. */
  readonly #running = new Map<number, AbortController>();
  readonly #turns = new SerialQueue();
  #idleWaiters: (() => void)[] = [];

  constructor(handler: Handler, models: ModelMultiplexer, environment: HandlerEnvironment) {
    this.#handler = handler;
    this.#models = models;
    this.#environment = environment;
  }

  get abilities(): HandlerAbilities {
    const { reconfigure, loadModel, recordRoutingStats } = this.#handler;
    return {
      reconfigures: reconfigure !== undefined,
      loadsModels: loadModel !== undefined,
      recordsStats: recordRoutingStats !== undefined,
    };
  }

  /** One after the other, those of other messages before; one that fails fails alone. */
  run({ id, key }: ModelReference, requests: readonly HandlerRequest[]): Promise<CallAnswer[]> {
    const modelId = key === NO_MODEL ? undefined : id;
    // All can be cancelled from now on, also those whose turn has not come.
    for (const { ticket } of requests) this.#running.set(ticket, new AbortController());
    return this.#turns.run(async () => {
      const answers: CallAnswer[] = [];
      for (const request of requests) answers.push(await this.#runOne(modelId, request));
      return answers;
    });
  }

  /** Nobody wants the answer any more. */
  cancel(ticket: number): void {
    this.#running.get(ticket)?.abort();
  }

  cancelAll(): void {
    for (const controller of this.#running.values()) controller.abort();
  }

  get isIdle(): boolean {
    return this.#running.size === 0;
  }

  /** Resolves when no request is with the handler. */
  untilIdle(): Promise<void> {
    if (this.isIdle) return Promise.resolve();
    return new Promise((resolve) => this.#idleWaiters.push(resolve));
  }

  /** @throws InfermuxError `FAILED_PRECONDITION` with what the handler threw. */
  async reconfigure(userConfig: unknown): Promise<void> {
    try {
      await this.#handler.reconfigure?.(userConfig);
    } catch (cause) {
      const message = `the handler refused its userConfig: ${messageOf(cause)}`;
      throw new InfermuxError('FAILED_PRECONDITION', message, { cause });
    }
  }

  /** @throws what the handler throws. */
  async checkHealth(): Promise<void> {
    await this.#handler.checkHealth?.();
  }

  /**
   * What the handler tells of itself.
   *
   * @throws what it throws; also for what is no plain object, or cannot be cloned, or would put no number over one.
   */
  async routingStats(): Promise<Readonly<Record<string, unknown>>> {
    const stats = await this.#handler.recordRoutingStats?.();
    const expectation = isObject(stats);
    if (expectation !== undefined) throw new Error(`it returned ${show(stats)} instead of ${expectation}`);
    for (const name of BUILT_IN_STATS) {
      const value = (stats as Readonly<Record<string, unknown>>)[name];
      if (value === undefined || Number.isFinite(value)) continue;
      throw new Error(`it returned ${show(value)} for ${name} instead of a finite number`);
    }
    return structuredClone(stats as Readonly<Record<string, unknown>>);
  }

  async #runOne(modelId: string | undefined, { ticket, value }: HandlerRequest): Promise<CallAnswer> {
    const { now, isStopping } = this.#environment;
    const startedAt = now();
    const holdings: Holdings = { leases: [], isOver: false };
    const answer = { requests: 1, joined: false, outputs: undefined };
    try {
      if (isStopping()) throw new InfermuxError('REPLICA_FAILED', 'the replica is stopping');
      const { signal } = this.#running.get(ticket) as AbortController;
      if (signal.aborted) throw new InfermuxError('CANCELLED', 'the request was cancelled');
      const result = await unlessAborted(signal, () =>
        this.#handler.handle(value, this.#contextOf(modelId, signal, holdings)),
      );
      const copy = copyOf(result);
      return { ...answer, runMs: [now() - startedAt], error: undefined, result: { value: copy } };
    } catch (cause) {
      return { ...answer, runMs: [now() - startedAt], error: toErrorRecord(handlerError(cause)), result: undefined };
    } finally {
      holdings.isOver = true;
      for (const lease of holdings.leases) await lease.giveBack();
      this.#running.delete(ticket);
      if (this.isIdle) for (const resolve of this.#idleWaiters.splice(0)) resolve();
    }
  }

  #contextOf(modelId: string | undefined, signal: AbortSignal, holdings: Holdings): HandlerContext {
    return {
      replica: this.#environment.replica,
      modelId,
      signal,
      run: (model, feeds, outputs) => unminded(this.#runModel(model, feeds, outputs)),
      log: (level, fields, message) => this.#environment.log(level, fields, message),
      getModel: ((id: string) => unminded(this.#getModel(id, holdings))) as HandlerContext['getModel'],
    };
  }

  async #runModel(target: string, feeds: Feeds, outputs: readonly string[] | undefined): Promise<Outputs> {
    if (outputs !== undefined && !(Array.isArray(outputs) && outputs.every((name) => typeof name === 'string'))) {
      throw new InfermuxError('INVALID_ARGUMENT', `outputs must be a list of names, got ${show(outputs)}`);
    }
    const given = readFeeds(feeds);
    const model = await this.#environment.resolve(target);
    const lease = this.#models.leaseLoaded(model.key) ?? (await this.#models.lease(model));
    try {
      return await runSession(model.id, lease.session, given, outputs);
    } finally {
      lease.giveBack();
    }
  }

  async #getModel(id: string, holdings: Holdings): Promise<unknown> {
    const isOwn = this.#handler.loadModel !== undefined;
    const model = isOwn ? handlerModel(id) : await this.#environment.resolve(id);
    const lease = await this.#models.hold(model);
    if (holdings.isOver) {
      await lease.giveBack();
      throw new InfermuxError('FAILED_PRECONDITION', `model ${show(id)} came after the request was answered`);
    }
    holdings.leases.push(lease);
    const { session } = lease;
    if (session instanceof OwnModel) return session.value;
    const { inputs, outputs } = session.metadata;
    const run = (feeds: Feeds, names?: readonly string[]) =>
      // It is there as long as it is held, whatever else comes and goes.
      holdings.isOver ? this.#runModel(id, feeds, names) : runSession(id, session, readFeeds(feeds), names);
    return { id, inputs, outputs, run };
  }
}

async function runSession(
  id: string,
  session: Session,
  feeds: TensorFeeds,
  outputs: readonly string[] | undefined,
): Promise<Outputs> {
  const { inputs, outputs: known } = session.metadata;
  checkFeeds(id, feeds, inputs);
  checkOutputNames(id, outputs, known);
  return session.run(feeds, outputs);
}

/**
 * What the work returns. Once nobody wants that any more it is not waited for: the requests behind it are not to wait for ever
 * for a handler that does not mind its signal.
 */
async function unlessAborted(signal: AbortSignal, work: () => unknown): Promise<unknown> {
  const aborted = new Promise<never>((_, reject) => {
    const give = () => reject(new InfermuxError('CANCELLED', 'nobody wants the answer any more'));
    signal.addEventListener('abort', give, { once: true });
  });
  return Promise.race([(async () => work())(), aborted]);
}

/** What a handler passes on of the engine keeps its code; its own errors are failures of the inference. */
function handlerError(cause: unknown): InfermuxError {
  if (isInfermuxError(cause)) return cause;
  return withStackOf(
    cause,
    new InfermuxError('INFERENCE_FAILED', `the handler failed: ${messageOf(cause)}`, { cause }),
  );
}

/** A handler need not wait for what it asked for: then its failure is nobody's, and must not end the thread. */
function unminded<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => undefined);
  return promise;
}

/** What cannot be cloned is this request's fault alone. */
function copyOf(result: unknown): unknown {
  try {
    return structuredClone(result);
  } catch (cause) {
    const message = `the handler returned what cannot be cloned: ${messageOf(cause)}`;
    throw new InfermuxError('INFERENCE_FAILED', message, { cause });
  }
}

/** Of a value that may throw when it is looked at. */
function isInfermuxError(value: unknown): value is InfermuxError {
  try {
    return value instanceof InfermuxError;
  } catch {
    return false;
  }
}
