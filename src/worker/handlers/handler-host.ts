import { isObject } from '../../common/checks.js';
import { InfermuxError, messageOf, show, withStackOf } from '../../common/errors.js';
import { SerialQueue } from '../../common/serial-queue.js';
import { clone } from '../../common/values/clone.js';
import { type Handler, type HandlerContext, type LogFields, NO_MODEL } from '../../contracts/handler.js';
import type { ModelReference } from '../../contracts/model-reference.js';
import { BUILT_IN_STATS } from '../../contracts/request-router.js';
import { toErrorRecord } from '../../protocol/error-record.js';
import type { CallAnswer, HandlerAbilities, HandlerRequest } from '../../protocol/messages.js';
import { stopping } from '../native-call.js';
import type { ModelMultiplexer } from '../sessions/model-multiplexer.js';
import { loggableFields, loggableText } from './loggable.js';
import type { ModelRuns } from './model-runs.js';
import { type ModelResolver, RequestModels, unminded } from './request-models.js';

export interface HandlerEnvironment extends ModelResolver {
  readonly replica: string;
  /** Whether the thread must begin nothing more. */
  isStopping(): boolean;
  log(level: 'debug' | 'info' | 'warn' | 'error', fields: LogFields, message: string): void;
  now(): number;
  readonly runs: ModelRuns;
}

/** Most routing stats of a replica: each router and each status gets them. */
const MOST_STATS = 1_024;

/** Gives requests to a handler, one at a time, with a context for each. */
export class HandlerHost {
  readonly #handler: Handler;
  readonly #models: ModelMultiplexer;
  readonly #environment: HandlerEnvironment;
  /** By ticket: aborts the request when its caller cancels it. */
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

  /** Answers the requests one after the other, after those of earlier messages. A request that fails fails alone. */
  run({ id, key }: ModelReference, requests: readonly HandlerRequest[]): Promise<CallAnswer[]> {
    const modelId = key === NO_MODEL ? undefined : id;
    // From now on every request can be cancelled, even before its turn.
    for (const { ticket } of requests) this.#running.set(ticket, new AbortController());
    return this.#turns.run(async () => {
      const answers: CallAnswer[] = [];
      for (const request of requests) answers.push(await this.#runOne(modelId, request));
      return answers;
    });
  }

  /** Aborts the signal of a request: nobody wants the answer any more. */
  cancel(ticket: number): void {
    this.#running.get(ticket)?.abort();
  }

  cancelAll(): void {
    for (const controller of this.#running.values()) controller.abort();
  }

  get isIdle(): boolean {
    return this.#running.size === 0;
  }

  /** Resolves when the handler has no request. */
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
   * Returns the handler's own routing stats.
   *
   * @throws what the handler throws; also when the stats are no plain object, cannot be cloned, or have no finite
   *   number under the name of a built-in stat.
   */
  async routingStats(): Promise<Readonly<Record<string, unknown>>> {
    const stats = await this.#handler.recordRoutingStats?.();
    const expectation = isObject(stats);
    if (expectation !== undefined) throw new Error(`it returned ${show(stats)} instead of ${expectation}`);
    const count = Object.keys(stats as object).length;
    if (count > MOST_STATS) throw new Error(`it returned ${count} statistics; at most ${MOST_STATS} are kept`);
    for (const name of BUILT_IN_STATS) {
      const value = (stats as Readonly<Record<string, unknown>>)[name];
      if (value === undefined || Number.isFinite(value)) continue;
      throw new Error(`it returned ${show(value)} for ${name} instead of a finite number`);
    }
    return clone(stats as Readonly<Record<string, unknown>>);
  }

  async #runOne(modelId: string | undefined, { ticket, value }: HandlerRequest): Promise<CallAnswer> {
    const { now, isStopping, runs } = this.#environment;
    const startedAt = now();
    const models = new RequestModels(this.#models, this.#environment, runs, this.#handler.loadModel !== undefined);
    const answer = { requests: 1, joined: false, outputs: undefined };
    try {
      if (isStopping()) throw stopping();
      const { signal } = this.#running.get(ticket) as AbortController;
      if (signal.aborted) throw new InfermuxError('CANCELLED', 'the request was cancelled');
      const result = await unlessAborted(signal, () =>
        this.#handler.handle(value, this.#contextOf(modelId, signal, models)),
      );
      const copy = copyOf(result);
      return { ...answer, runMs: [now() - startedAt], error: undefined, result: { value: copy } };
    } catch (cause) {
      return { ...answer, runMs: [now() - startedAt], error: toErrorRecord(handlerError(cause)), result: undefined };
    } finally {
      for (const lease of models.end()) await lease.giveBack();
      this.#running.delete(ticket);
      if (this.isIdle) for (const resolve of this.#idleWaiters.splice(0)) resolve();
    }
  }

  #contextOf(modelId: string | undefined, signal: AbortSignal, models: RequestModels): HandlerContext {
    return {
      replica: this.#environment.replica,
      modelId,
      signal,
      run: (model, feeds, outputs) => unminded(models.run(model, feeds, outputs)),
      log: (level, fields, message) => this.#environment.log(level, loggableFields(fields), loggableText(message)),
      getModel: ((id: string) => unminded(models.get(id))) as HandlerContext['getModel'],
    };
  }
}

/**
 * Resolves with the result of the work, or rejects at once when the signal is aborted: a handler may ignore its signal,
 * and the requests behind it must not wait for ever.
 */
async function unlessAborted(signal: AbortSignal, work: () => unknown): Promise<unknown> {
  const aborted = new Promise<never>((_, reject) => {
    const give = () => reject(new InfermuxError('CANCELLED', 'nobody wants the answer any more'));
    signal.addEventListener('abort', give, { once: true });
  });
  return Promise.race([(async () => work())(), aborted]);
}

/** An error of the engine that a handler passes on keeps its code; a handler's own error is a failed inference. */
function handlerError(cause: unknown): InfermuxError {
  if (cause instanceof InfermuxError) return cause;
  return withStackOf(
    cause,
    new InfermuxError('INFERENCE_FAILED', `the handler failed: ${messageOf(cause)}`, { cause }),
  );
}

/** Returns a clone. A result that cannot be cloned fails this request alone. */
function copyOf(result: unknown): unknown {
  try {
    return clone(result);
  } catch (cause) {
    const message = `the handler returned what cannot be cloned: ${messageOf(cause)}`;
    throw new InfermuxError('INFERENCE_FAILED', message, { cause });
  }
}
