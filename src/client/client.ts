import { check, isMilliseconds, satisfies } from '../common/checks.js';
import { isPlainObject } from '../common/values/realm.js';
import type { ModelRequest, ModelRunOptions, RunOptions } from '../contracts/run-options.js';
import { isTraceContext } from '../contracts/trace-context.js';
import type { InferenceResult } from '../index.js';
import { DETAILS_PARAMETER } from '../open-inference/own-keys.js';
import { checkFeeds } from '../tensors/check-feeds.js';
import type { AnyModels, FeedsOf, ModelTypes, OutputNameOf, OutputsOf, TargetOf } from '../tensors/model-types.js';
import { readFeeds } from '../tensors/read-feeds.js';
import { type Feeds, isTensorType, type ReadFeeds, type Tensor } from '../tensors/tensor.js';
import { CallsUnderWay } from './calls-under-way.js';
import { ClientModels } from './client-models.js';
import { inferCallOf } from './handler-call.js';
import { parametersOf } from './request-parameters.js';
import { withRetries } from './retries.js';
import type { CallTerms, HandlerCall, InferCall, InferReply, Transport } from './transports/transport.js';

/** A request for {@link InferenceClient.infer}. */
export interface ClientRequest<Request = Feeds> extends RunOptions {
  /** A model id, `id@version`, or any other name that the server has. */
  readonly target: string;
  /** Every input by name; for a deployment with a handler, the handler's request. */
  readonly feeds: Request;
}

const isTrace = satisfies(isTraceContext, 'a W3C trace context, { traceparent, tracestate }');

/** A client of a server of the Open Inference Protocol, with the methods of an engine. Created by `connect`. */
export class InferenceClient<Models extends ModelTypes<Models> = AnyModels> {
  /**
   * Lists, describes, loads and unloads the models of the server.
   *
   * @readonly
   */
  readonly models: ClientModels;
  readonly #transport: Transport;
  readonly #retries: number;
  readonly #timeoutMs: number;
  readonly #calls = new CallsUnderWay();
  #closing: Promise<void> | undefined;

  /** @internal */
  constructor(transport: Transport, retries: number, timeoutMs: number) {
    this.#transport = transport;
    this.#retries = retries;
    this.#timeoutMs = timeoutMs;
    this.models = new ClientModels(transport, retries, this.#calls, (options) => this.#terms(options));
  }

  /**
   * Sends a request to a deployment with a handler, as JSON, and returns the handler's answer. In TypeScript, pass its
   * type as `Result`.
   */
  run<Result = never>(
    target: string,
    request: [Result] extends [never] ? never : unknown,
    options?: RunOptions,
  ): Promise<NoInfer<Result>>;
  /**
   * Runs a model and returns its outputs.
   *
   * @param target a model id, `id@version`, or any other name that the server has.
   * @param feeds every input by name.
   * @throws InfermuxError by rejection, with the codes of the engine. `REPLICA_FAILED` also when the server cannot be
   *   reached.
   */
  run<Target extends TargetOf<Models>, const Name extends OutputNameOf<Models, Target> = OutputNameOf<Models, Target>>(
    target: Target,
    feeds: FeedsOf<Models, Target>,
    options?: ModelRunOptions<Name>,
  ): Promise<OutputsOf<Models, Target, Name>>;
  async run(target: string, request: unknown, options: RunOptions = {}): Promise<unknown> {
    return outputsOf(await this.#calls.track(() => this.#infer(target, request, options, {})));
  }

  /**
   * Like {@link run} for a handler, but also returns details such as the replica and the times. Pass the request as
   * `feeds`; the answer is in `outputs`.
   */
  infer<Result = never>(
    request: [Result] extends [never] ? never : ClientRequest<unknown>,
  ): Promise<InferenceResult<NoInfer<Result>>>;
  /**
   * Like {@link run}, but also returns details such as the replica and the times. Details that another server does not
   * send are 0 or empty.
   */
  infer<
    Target extends TargetOf<Models>,
    const Name extends OutputNameOf<Models, Target> = OutputNameOf<Models, Target>,
  >(request: ModelRequest<Models, Target, Name>): Promise<InferenceResult<OutputsOf<Models, Target, Name>>>;
  async infer(request: ClientRequest<unknown>): Promise<InferenceResult<unknown>> {
    const { target, feeds, ...options } = request;
    const details = { [DETAILS_PARAMETER]: true };
    const reply = await this.#calls.track(() => this.#infer(target, feeds, options, details));
    const { parameters } = reply;
    const number = (name: string) => (typeof parameters[name] === 'number' ? (parameters[name] as number) : 0);
    const text = (name: string) => (typeof parameters[name] === 'string' ? (parameters[name] as string) : '');
    return {
      outputs: outputsOf(reply),
      model: text('model') || reply.model,
      version: Number(reply.version) || 1,
      deployment: text('deployment'),
      replica: text('replica'),
      batchSize: number('batch_size') || 1,
      timings: {
        queueMs: number('queue_ms'),
        loadMs: number('load_ms'),
        runMs: number('run_ms'),
        totalMs: number('total_ms'),
      },
    };
  }

  /**
   * Sends a request to a deployment whose handler answers with a stream, and yields the items as they arrive. Ending
   * the iteration early ends the handler's generator.
   */
  stream<Item = unknown>(target: string, request: unknown, options: RunOptions = {}): AsyncIterable<Item> {
    const terms = this.#terms(options);
    const call = {
      ...terms,
      isIdempotent: false,
      name: nameOf(target, options),
      request,
      parameters: parametersOf(options, terms),
    };
    return this.#calls.trackItems(() => this.#items(call)) as AsyncIterable<Item>;
  }

  /** Whether the server answers inference requests. False also when it cannot be reached. */
  async ready(): Promise<boolean> {
    try {
      return await this.#calls.track(() => this.#transport.isReady(undefined, this.#terms({})));
    } catch {
      return false;
    }
  }

  /** Accepts no more requests, and closes the connections when those in progress are answered. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#calls.close().then(() => this.#transport.close());
    return this.#closing;
  }

  /** {@link close}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Begins a stream anew only if its request was never sent: its handler may do more than compute. */
  async *#items(call: HandlerCall): AsyncGenerator<unknown, undefined> {
    const { items, first } = await withRetries(this.#retries, false, call, async () => {
      const begun = this.#transport.generateStream(call);
      return { items: begun, first: await begun.next() };
    });
    try {
      if (first.done !== true) yield first.value;
      yield* items;
    } finally {
      await items.return(undefined);
    }
    return undefined;
  }

  async #infer(target: string, request: unknown, options: RunOptions, more: InferCall['parameters']) {
    const terms = this.#terms(options);
    const name = nameOf(target, options);
    const isIdempotent = areFeeds(request) && options.method === undefined;
    const own = { ...terms, isIdempotent, name, parameters: { ...parametersOf(options, terms), ...more } };
    // A handler may do more than compute.
    if (!areFeeds(request)) {
      return withRetries(this.#retries, false, terms, () => this.#transport.infer(inferCallOf({ ...own, request })));
    }
    const tensors = await this.#tensors(name, readFeeds(request));
    const inputs = Object.entries(tensors).map(([input, tensor]) => ({ name: input, tensor: tensor as Tensor }));
    // A run of a model changes nothing, so it may run twice. Only handlers have methods.
    return withRetries(this.#retries, isIdempotent, terms, () =>
      this.#transport.infer({ ...own, inputs, outputs: options.outputs }),
    );
  }

  /** Gives elements without a type the type of their input, which the server tells. */
  async #tensors(name: string, feeds: ReadFeeds): Promise<Readonly<Record<string, Tensor>>> {
    const isTyped = Object.values(feeds).every(({ type }) => isTensorType(type));
    if (!isTyped) checkFeeds(name, feeds, (await this.models.get(name)).inputs);
    return feeds as Readonly<Record<string, Tensor>>;
  }

  #terms({ signal, timeoutMs, deadline, requestId, traceContext }: RunOptions): CallTerms {
    const limitMs = timeoutMs ?? (deadline === undefined ? this.#timeoutMs : -1);
    check('timeoutMs', limitMs, isMilliseconds({ lowest: 0, or: -1 }));
    if (traceContext !== undefined) check('traceContext', traceContext, isTrace);
    const limit = limitMs === -1 ? undefined : Date.now() + limitMs;
    const latest = limit === undefined || deadline === undefined ? (limit ?? deadline) : Math.min(limit, deadline);
    return { signal, deadline: latest, requestId, traceContext };
  }
}

function outputsOf({ outputs, json }: InferReply): unknown {
  return json === undefined ? outputs : json.value;
}

/** Whether a request is for a model: an object of tensors. */
function areFeeds(value: unknown): value is Feeds {
  if (!isPlainObject(value)) return false;
  const entries = Object.values(value);
  return (
    entries.length > 0 &&
    entries.every((each) => each !== null && typeof each === 'object' && 'data' in each && 'dims' in each)
  );
}

function nameOf(target: string, { deployment }: RunOptions): string {
  return deployment === undefined || deployment === target ? target : `${deployment}/${target}`;
}
