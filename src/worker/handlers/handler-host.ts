import { isObject } from '../../common/checks.js';
import { InfermuxError, messageOf, show, withStackOf } from '../../common/errors.js';
import { clone } from '../../common/values/clone.js';
import { toErrorRecord } from '../../common/values/error-record.js';
import { isError } from '../../common/values/realm.js';
import { type Handler, type HandlerContext, NO_MODEL } from '../../contracts/handler.js';
import type { ModelReference } from '../../contracts/model-reference.js';
import { BUILT_IN_STATS } from '../../contracts/request-router.js';
import type { CallAnswer, HandlerAbilities, HandlerRequest, HandlerResult } from '../../protocol/messages.js';
import { stopping } from '../native-call.js';
import type { ModelMultiplexer } from '../sessions/model-multiplexer.js';
import { methodOf } from './handler-methods.js';
import type { ModelRuns } from './model-runs.js';
import { CallContext, type CallEnvironment } from './requests/call-context.js';
import { CollectedItems, type Copy, copyOf, ItemSender, ItemStream, itemsOf } from './requests/item-stream.js';
import type { OngoingRequests } from './requests/ongoing-requests.js';
import { type ModelResolver, RequestModels } from './requests/request-models.js';

export interface HandlerEnvironment extends ModelResolver, CallEnvironment {
  /** Whether the thread must begin nothing more. */
  isStopping(): boolean;
  now(): number;
  /** Sends items of the stream that answers the request. */
  sendItems(ticket: number, items: readonly unknown[]): void;
  readonly runs: ModelRuns;
  /** Copies what the handler answers with. */
  readonly copy: Copy;
}

/** Most routing stats of a replica: each router and each status gets them. */
const MOST_STATS = 1_024;

/** Gives requests to a handler, as they come, with a context for each call. */
export class HandlerHost {
  readonly #handler: Handler;
  readonly #models: ModelMultiplexer;
  readonly #environment: HandlerEnvironment;
  readonly ongoing: OngoingRequests;

  /** @param ongoing also knows of loads that were given up. */
  constructor(handler: Handler, models: ModelMultiplexer, environment: HandlerEnvironment, ongoing: OngoingRequests) {
    this.ongoing = ongoing;
    this.#handler = handler;
    this.#models = models;
    this.#environment = environment;
  }

  get abilities(): HandlerAbilities {
    const { handleBatch, reconfigure, loadModel, recordRoutingStats } = this.#handler;
    return {
      takes: handleBatch === undefined ? 'requests' : 'batches',
      reconfigures: reconfigure !== undefined,
      loadsModels: loadModel !== undefined,
      recordsStats: recordRoutingStats !== undefined,
    };
  }

  /** Answers requests: those of a batch in one call of the handler, otherwise each in its own. One that fails fails alone. */
  async run({ id, key }: ModelReference, requests: readonly HandlerRequest[]): Promise<CallAnswer[]> {
    const modelId = key === NO_MODEL ? undefined : id;
    if (this.#handler.handleBatch !== undefined && requests[0]?.terms?.method === undefined)
      return [await this.#call(modelId, requests)];
    return Promise.all(requests.map((request) => this.#call(modelId, [request])));
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

  /** Resolves when the handler is done with the requests that were given up; undefined when there are none. */
  unfinished(): Promise<unknown> | undefined {
    return this.ongoing.givenUp;
  }

  /** Calls the handler for these requests. @throws InfermuxError `REPLICA_FAILED` when the thread stops. */
  async #call(modelId: string | undefined, requests: readonly HandlerRequest[]): Promise<CallAnswer> {
    const { now, isStopping, runs } = this.#environment;
    const startedAt = now();
    const models = new RequestModels(this.#models, this.#environment, runs, this.#handler.loadModel !== undefined);
    const ongoing = this.ongoing.begin(requests);
    let results: readonly HandlerResult[];
    let runMs: number;
    try {
      if (isStopping()) throw stopping();
      const context = new CallContext(this.#environment, modelId, requests, ongoing, models);
      const isBatch = this.#handler.handleBatch !== undefined && context.method === undefined;
      const work = isBatch ? this.#handleBatch : this.#handleOne;
      results = await ongoing.unlessAborted(() => work(requests, context), this.ongoing.goesOn);
    } catch (cause) {
      const failure = handlerError(cause);
      // Another replica may take the requests. Otherwise the code is one that the handler passes on.
      if (isStopping() && failure.code === 'REPLICA_FAILED') throw failure;
      const error = toErrorRecord(failure);
      results = requests.map(() => ({ error }));
    } finally {
      runMs = now() - startedAt;
      for (const lease of models.end()) await lease.giveBack();
      this.ongoing.end(requests);
    }
    const { length } = requests;
    return { requests: length, joined: length > 1, runMs: [runMs], outputs: undefined, error: undefined, results };
  }

  readonly #handleOne = async (
    [request]: readonly HandlerRequest[],
    context: HandlerContext,
  ): Promise<readonly HandlerResult[]> => {
    const { ticket, value, ahead, isShadow } = request as HandlerRequest;
    const { method } = context;
    const answer = await (method === undefined
      ? this.#handler.handle?.(value, context)
      : methodOf(this.#handler, method).call(this.#handler, value, context));
    const items = itemsOf(answer);
    if (ahead === undefined) {
      if (items === undefined) return [{ value: copyOf(answer, this.#environment.copy) }];
      const all = new CollectedItems(!isShadow);
      await new ItemStream(items, context.signal, this.#environment.copy).take((item) => all.add(item));
      return [{ value: all.items }];
    }
    if (items === undefined) throw noStream(`the handler returned ${show(answer)}`);
    const sender = new ItemSender(ahead, (sent) => this.#environment.sendItems(ticket, sent));
    this.ongoing.streams(ticket, sender);
    try {
      await new ItemStream(items, context.signal, this.#environment.copy).take((item) => sender.add(item));
    } finally {
      sender.flush();
    }
    return [{ value: undefined }];
  };

  readonly #handleBatch = async (
    requests: readonly HandlerRequest[],
    context: HandlerContext,
  ): Promise<readonly HandlerResult[]> => {
    const values = requests.map(({ value }) => value);
    const answers = await this.#handler.handleBatch?.(values, context);
    if (!Array.isArray(answers) || answers.length !== requests.length) {
      const got = Array.isArray(answers) ? `${answers.length} answers` : show(answers);
      throw new Error(`handleBatch must return a list of ${requests.length} answers, one for each request, got ${got}`);
    }
    return requests.map(({ ahead }, index): HandlerResult => {
      try {
        const answer: unknown = answers[index];
        if (isError(answer)) throw answer;
        if (ahead !== undefined) throw noStream('the handler answers in batches');
        return { value: copyOf(answer, this.#environment.copy) };
      } catch (cause) {
        return { error: toErrorRecord(handlerError(cause)) };
      }
    });
  };
}

/** An error of the engine that a handler passes on keeps its code; a handler's own error is a failed inference. */
function handlerError(cause: unknown): InfermuxError {
  if (cause instanceof InfermuxError) return cause;
  return withStackOf(
    cause,
    new InfermuxError('INFERENCE_FAILED', `the handler failed: ${messageOf(cause)}`, { cause }),
  );
}

function noStream(what: string): InfermuxError {
  return new InfermuxError('FAILED_PRECONDITION', `${what}, and no stream of items: call engine.run instead`);
}
