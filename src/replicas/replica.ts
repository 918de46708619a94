import type { Transferable } from 'node:worker_threads';
import type { Clock } from '../common/clock.js';
import { InfermuxError, messageOf } from '../common/errors.js';
import { isHandlerKey, NO_MODEL } from '../contracts/handler.js';
import type { ModelReference } from '../contracts/model-reference.js';
import { splitOutputs } from '../protocol/call-answers.js';
import { fromErrorRecord, toErrorRecord } from '../protocol/error-record.js';
import type {
  Answer,
  CallAnswer,
  ExpireAnswer,
  HandlerRequest,
  HelloAnswer,
  ReplicaEvent,
  ReplicaMessage,
  RequestGroup,
  RunAnswer,
  RunMessage,
  UnloadAnswer,
  UnloadMessage,
  Verification,
} from '../protocol/messages.js';
import { type ReplicaCounters, STOP_LEVELS } from '../protocol/queue-counters.js';
import { type GroupFeeds, packGroups } from '../protocol/request-groups.js';
import { bufferPool } from '../tensors/buffer-pool.js';
import type { Outputs } from '../tensors/tensor.js';
import { checkTransition, isFinal, type ReplicaState } from './replica-state.js';

/** The thread under a replica. */
export interface ReplicaThread {
  /** Sends one message; the thread starts with the first. Resolves with the answer. */
  post(message: ReplicaMessage, transfer?: readonly Transferable[]): Promise<unknown>;
  /** Rejects all messages that have no answer. It never does so by itself, not even when the thread ends. */
  rejectAll(error: unknown): void;
  /** Called with what the thread reports, in order with its answers. */
  onEvent(listener: (event: ReplicaEvent) => void): void;
  /** Resolves when the thread is gone, with the error that ended it, if it was one. */
  readonly ended: Promise<Error | undefined>;
  /** Ends the thread wherever it is. Only when it is in no native call. */
  terminate(): void;
}

export interface ReplicaOptions {
  readonly id: string;
  readonly deployment: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly startTimeoutMs: number;
  /** -1 for never. */
  readonly modelIdleTimeoutMs: number;
  /** Bound on its sessions; -1 for none. */
  readonly maxModels: number;
  /** Bound on their bytes; -1 for none. */
  readonly maxModelBytes: number;
  /** Whether a handler takes its requests, so that it can be given some that name no model. */
  readonly isHandler: boolean;
}

export interface ReplicaObserver {
  stateChanged(replica: Replica, state: ReplicaState): void;
  /** The thread died or could not start; all that it was given is about to be rejected. */
  failed(replica: Replica, error: InfermuxError): void;
  /** The model appeared in or disappeared from `models`, or went from loading to loaded. */
  modelChanged(replica: Replica, modelKey: string): void;
  event(replica: Replica, event: ReplicaEvent): void;
}

type ModelState = 'loading' | 'loaded';

/** Requests for one model that go in one message. */
export interface ReplicaDispatch {
  readonly model: ModelReference;
  readonly groups: readonly ReplicaGroup[];
  /** Keys of models that may leave before others, should the model need room. */
  readonly spare: readonly string[];
  /** Hold batches against single runs. */
  readonly verify: boolean;
}

interface LoadHow {
  readonly pin: boolean;
  readonly spare?: readonly string[];
  readonly replaces?: string | undefined;
}

/** Requests that are alike: feeds of the model, or what a handler is given. */
export interface ReplicaGroup extends GroupFeeds {
  /** One for each request, then all feeds are empty; undefined where there is no handler. */
  readonly payloads?: readonly HandlerPayload[] | undefined;
}

/** What a handler is given, and what says that nobody wants its answer any more. */
export interface HandlerPayload {
  readonly value: unknown;
  readonly abandoned: AbortSignal;
}

export interface ReplicaAnswer {
  /** Milliseconds that the dispatch waited for a load. */
  readonly loadMs: number;
  readonly verification: Verification | undefined;
  /** The calls that were made for each group; they answer its requests in their order. */
  readonly calls: readonly (readonly ReplicaCall[])[];
}

/** One onnxruntime call for several requests, or several calls for one request each that came to the same. */
export interface ReplicaCall {
  readonly requests: number;
  /** Whether it was one call. */
  readonly joined: boolean;
  /** Milliseconds of each call. */
  readonly runMs: readonly number[];
  readonly error: InfermuxError | undefined;
  /** Each request's outputs on memory of their own, or what the handler returned for it; none if it failed. */
  outputs(): readonly Outputs[];
}

/**
 * The main-thread handle of one worker thread, from its start to its end; after it failed or stopped, another one takes
 * its place.
 */
export class Replica {
  readonly id: string;
  readonly deployment: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Resolves when its thread is gone and nothing more is done with it. */
  readonly gone: Promise<void>;
  readonly models = new Map<string, ModelState>();
  /** Those of them that never leave to make room for others. */
  readonly pinned = new Set<string>();
  readonly counters: ReplicaCounters;
  readonly #options: ReplicaOptions;
  readonly #thread: ReplicaThread;
  readonly #clock: Clock;
  readonly #observer: ReplicaObserver;
  /** Keys of models that the thread was told of. */
  readonly #defined = new Set<string>();
  #state: ReplicaState = 'starting';
  #loading = 0;
  #loadUnderWay: string | undefined;
  #cancelExpiry: (() => void) | undefined;
  #end: Promise<void> | undefined;
  #hello: HelloAnswer | undefined;
  #hasRun = false;
  #ownStats: Readonly<Record<string, unknown>> | undefined;
  #lastTicket = 0;
  #reportGone: () => void = () => undefined;

  constructor(
    options: ReplicaOptions,
    thread: ReplicaThread,
    counters: ReplicaCounters,
    clock: Clock,
    observer: ReplicaObserver,
  ) {
    this.id = options.id;
    this.deployment = options.deployment;
    this.labels = options.labels;
    this.gone = new Promise((resolve) => {
      this.#reportGone = resolve;
    });
    this.counters = counters;
    this.#options = options;
    this.#thread = thread;
    this.#clock = clock;
    this.#observer = observer;
    thread.onEvent((event) => this.#onEvent(event));
  }

  get state(): ReplicaState {
    return this.#state;
  }

  get ongoing(): number {
    return isFinal(this.#state) ? 0 : this.counters.ongoing;
  }

  get dispatches(): number {
    return isFinal(this.#state) ? 0 : this.counters.dispatches;
  }

  get isLoading(): boolean {
    return this.#loading > 0;
  }

  get loadUnderWay(): string | undefined {
    return this.#loadUnderWay;
  }

  get freeBytes(): number {
    const { maxModelBytes } = this.#options;
    return maxModelBytes === -1 ? Number.POSITIVE_INFINITY : maxModelBytes - this.counters.bytes;
  }

  get freeModels(): number {
    const { maxModels } = this.#options;
    return maxModels === -1 ? Number.POSITIVE_INFINITY : Math.max(0, maxModels - this.models.size);
  }

  /** Whether it ever took requests. */
  get hasRun(): boolean {
    return this.#hasRun;
  }

  /** What the thread said of itself; undefined before it ran. */
  get hello(): HelloAnswer | undefined {
    return this.#hello;
  }

  /**
   * Starts the thread and waits for its hello.
   *
   * @throws InfermuxError `REPLICA_FAILED` with the reason; the replica has failed then.
   */
  async start(): Promise<void> {
    let cancelTimeout: () => void = () => undefined;
    const timeout = new Promise<never>((_, reject) => {
      const { startTimeoutMs } = this.#options;
      const tooLate = new InfermuxError('REPLICA_FAILED', `the replica did not start within ${startTimeoutMs} ms`);
      cancelTimeout = this.#clock.schedule(() => reject(tooLate), startTimeoutMs);
    });
    const hello = this.#thread.post({ kind: 'hello' });
    const death = this.#thread.ended.then((cause) => {
      throw cause ?? new Error('the thread ended');
    });
    void this.#thread.ended.then((cause) => this.#die(cause ?? new Error('the thread ended')));
    try {
      this.#hello = unwrap((await Promise.race([hello, death, timeout])) as Answer<HelloAnswer>);
      if (isFinal(this.#state)) throw new Error('the thread ended');
      if (this.#state !== 'starting') return;
      if (this.#options.isHandler) this.models.set(NO_MODEL, 'loaded');
      this.#hasRun = true;
      this.#become('running');
    } catch (cause) {
      this.#die(cause);
      throw replicaFailed(this.id, cause);
    } finally {
      cancelTimeout();
      hello.catch(() => undefined);
      death.catch(() => undefined);
    }
  }

  /**
   * Runs the requests of one dispatch. A model that is not among `models` counts as loading from now on.
   *
   * @throws InfermuxError what the thread answers for all of them; `REPLICA_FAILED` when it died or stopped, which says
   *   nothing about the requests.
   */
  run({ model, groups, spare, verify }: ReplicaDispatch): Promise<ReplicaAnswer> {
    if (this.#state !== 'running') {
      return Promise.reject(new InfermuxError('REPLICA_FAILED', `replica ${this.id} is ${this.#state}`));
    }
    if (groups[0]?.payloads !== undefined) return this.#runHandler(model, groups);
    const { key } = model;
    let packed: ReturnType<typeof packGroups>;
    try {
      packed = packGroups(groups);
    } catch (cause) {
      // There may be no memory for the copy.
      const message = `the request could not be copied: ${messageOf(cause)}`;
      return Promise.reject(new InfermuxError('INTERNAL', message, { cause }));
    }
    const definition = this.#definitionFor(model);
    const message: RunMessage = {
      kind: 'run',
      model: key,
      definition,
      groups: packed.groups,
      spare: nonEmpty(spare),
      verify,
    };
    this.counters.dispatchGiven(groups.reduce((sum, { feeds }) => sum + feeds.length, 0));
    if (!this.models.has(key)) this.#setModel(key, 'loading');
    return this.#thread.post(message, packed.transfer).then(
      (posted) => {
        const answer = posted as Answer<RunAnswer>;
        this.#forgetFailedLoad(key, answer);
        const value = unwrap(answer);
        // It ran, so it is there, whatever was told of it.
        if (this.models.get(key) === 'loading') this.#setModel(key, 'loaded');
        if (value.buffer !== undefined) bufferPool.giveBack(value.buffer);
        return readAnswer(packed.groups, value);
      },
      (cause: unknown) => this.#lost(cause),
    );
  }

  async #runHandler(model: ModelReference, groups: readonly ReplicaGroup[]): Promise<ReplicaAnswer> {
    const { key } = model;
    const abandoned: (() => void)[] = [];
    const withTicket = ({ value, abandoned: signal }: HandlerPayload): HandlerRequest => {
      this.#lastTicket += 1;
      const ticket = this.#lastTicket;
      const cancel = () => void this.#thread.post({ kind: 'cancel', ticket }).catch(() => undefined);
      signal.addEventListener('abort', cancel, { once: true });
      abandoned.push(() => signal.removeEventListener('abort', cancel));
      return { ticket, value };
    };
    const asked = groups.map(({ payloads = [] }): RequestGroup => {
      const values = payloads.map(withTicket);
      return { requests: values.length, rows: undefined, inputs: [], outputs: undefined, checked: true, values };
    });
    const definition = this.#definitionFor(model);
    this.counters.dispatchGiven(asked.reduce((sum, { requests }) => sum + requests, 0));
    if (!this.models.has(key)) this.#setModel(key, 'loading');
    let answer: Answer<RunAnswer>;
    try {
      const message: RunMessage = {
        kind: 'run',
        model: key,
        definition,
        groups: asked,
        spare: undefined,
        verify: false,
      };
      answer = (await this.#thread.post(message)) as Answer<RunAnswer>;
    } catch (cause) {
      return this.#lost(cause);
    } finally {
      for (const forget of abandoned) forget();
    }
    // Whether it loads the model that it is asked about is the handler's affair.
    if (this.models.get(key) === 'loading' && this.#loadUnderWay !== key) this.#setModel(key, undefined);
    return readAnswer(asked, unwrap(answer));
  }

  /** Not even an error came for an answer: there is no more sense in talking to the thread. */
  #lost(cause: unknown): never {
    this.#die(cause);
    throw cause instanceof InfermuxError ? cause : replicaFailed(this.id, cause);
  }

  /**
   * Loads the model if it is not there. It counts as loading from now on, and so takes no other work meanwhile.
   *
   * @param how.pin never evict it.
   * @param how.spare keys of models that may leave before others.
   * @param how.replaces key of a session that counts as gone: it leaves when this one is there.
   * @throws InfermuxError `MODEL_LOAD_FAILED`; `FAILED_PRECONDITION` when there is no place to pin it; `REPLICA_FAILED`.
   */
  async load(model: ModelReference, how: LoadHow): Promise<void> {
    if (this.#state !== 'running') throw new InfermuxError('REPLICA_FAILED', `replica ${this.id} is ${this.#state}`);
    const { key } = model;
    const definition = this.#definitionFor(model);
    if (!this.models.has(key)) this.#setModel(key, 'loading');
    const { pin, spare = [], replaces } = how;
    const answer = await this.#post({ kind: 'load', model: key, definition, pin, spare: nonEmpty(spare), replaces });
    this.#forgetFailedLoad(key, answer);
    unwrap(answer);
    if (pin && this.models.has(key)) this.pinned.add(key);
  }

  /**
   * Releases the model's session after a load under way and its last user. Those who ask for it later load it again.
   *
   * @returns bytes of the model's files; 0 when it had no session.
   * @throws InfermuxError `REPLICA_FAILED`.
   */
  async unload(key: string, reason: UnloadMessage['reason']): Promise<number> {
    // A handler may have loaded it without a word from here.
    const isKnown = this.#defined.delete(key) || this.models.has(key);
    if (this.#state !== 'running' || !isKnown) return 0;
    const { bytes } = unwrap((await this.#post({ kind: 'unload', model: key, reason })) as Answer<UnloadAnswer>);
    return bytes;
  }

  /**
   * Gives the handler another configuration.
   *
   * @throws InfermuxError `FAILED_PRECONDITION` with what the handler threw; `REPLICA_FAILED`.
   */
  async reconfigure(userConfig: unknown): Promise<void> {
    unwrap(await this.#post({ kind: 'reconfigure', userConfig }));
  }

  /** @throws InfermuxError with what the handler's check threw; `REPLICA_FAILED`. Resolves as late as the thread gets to it. */
  async checkHealth(): Promise<void> {
    unwrap(await this.#post({ kind: 'health' }));
  }

  /**
   * Asks the handler how the replica fares.
   *
   * @param isLate asked when the answer comes: then it does not count any more.
   * @throws InfermuxError with what the handler threw; `REPLICA_FAILED`.
   */
  async recordRoutingStats(isLate: () => boolean): Promise<void> {
    const stats = unwrap((await this.#post({ kind: 'routing-stats' })) as Answer<Readonly<Record<string, unknown>>>);
    if (!isLate()) this.#ownStats = stats;
  }

  /** What the handler last told of itself; undefined if it tells nothing. */
  get ownStats(): Readonly<Record<string, unknown>> | undefined {
    return this.#ownStats;
  }

  /** Answers the thread's question for a model. */
  define(wanted: number, model: ModelReference | InfermuxError): void {
    const answer = model instanceof InfermuxError ? { error: toErrorRecord(model) } : { value: definitionOf(model) };
    void this.#post({ kind: 'define', wanted, model: answer }).catch(() => undefined);
  }

  /** What a message about the model has to tell the thread of it; undefined when it knows. */
  #definitionFor(model: ModelReference): ModelReference | undefined {
    const { key } = model;
    // A handler's own are told each time: there may be any number of them.
    if (isHandlerKey(key)) return definitionOf(model);
    if (this.#defined.has(key)) return undefined;
    this.#defined.add(key);
    return definitionOf(model);
  }

  async #post(message: ReplicaMessage): Promise<Answer<unknown>> {
    try {
      return (await this.#thread.post(message)) as Answer<unknown>;
    } catch (cause) {
      return this.#lost(cause);
    }
  }

  /**
   * Takes no new work, lets given work end, and ends the thread; resolves when it is gone. Idempotent.
   *
   * @param hurry do not begin what was given and not begun: it is answered with `REPLICA_FAILED`.
   */
  stop({ hurry }: { hurry: boolean }): Promise<void> {
    if (hurry) this.counters.raiseStop(STOP_LEVELS.stopping);
    if (this.#state === 'starting' || this.#state === 'running') this.#become('draining');
    this.#end ??= this.#endThread();
    return this.#end;
  }

  async #endThread(): Promise<void> {
    // The last message: it waits for those before it, and for their sessions' last users. A thread that never said hello has
    // no sessions, and may never answer.
    if (this.#hello !== undefined && !isFinal(this.#state)) {
      const release = this.#thread.post({ kind: 'release' }).catch(() => undefined);
      await Promise.race([release, this.#thread.ended]);
    }
    this.counters.raiseStop(STOP_LEVELS.exiting);
    await Promise.race([this.counters.untilOutsideNativeCall(), this.#thread.ended]);
    this.#cancelExpiry?.();
    if (!isFinal(this.#state)) this.#become('stopped');
    this.models.clear();
    this.#thread.terminate();
    await this.#thread.ended;
    this.#thread.rejectAll(new InfermuxError('REPLICA_FAILED', `replica ${this.id} stopped`));
    this.#reportGone();
  }

  /** Gives it up: its callers are rejected with `REPLICA_FAILED`, and its thread ends as soon as it is in no native call. */
  abandon(cause: Error): void {
    this.#die(cause);
  }

  #die(cause: unknown): void {
    if (isFinal(this.#state)) return;
    const error = replicaFailed(this.id, cause);
    this.#become('failed');
    this.#cancelExpiry?.();
    this.#observer.failed(this, error);
    this.models.clear();
    this.#thread.rejectAll(error);
    // It is usually gone; where it is not, it must not work on unseen.
    void this.stop({ hurry: true });
  }

  #become(state: ReplicaState): void {
    checkTransition(this.#state, state);
    this.#state = state;
    this.#observer.stateChanged(this, state);
  }

  #onEvent(event: ReplicaEvent): void {
    if (isFinal(this.#state)) return;
    this.#observer.event(this, event);
    switch (event.kind) {
      case 'model-loading':
        this.#loadUnderWay = event.key;
        this.#setModel(event.key, 'loading');
        break;
      case 'model-loaded':
        this.#loadUnderWay = undefined;
        this.#setModel(event.key, 'loaded');
        this.#scheduleExpiry(this.#options.modelIdleTimeoutMs);
        break;
      case 'model-load-failed':
        this.#loadUnderWay = undefined;
        this.#setModel(event.key, undefined);
        break;
      case 'model-unloaded':
        this.#setModel(event.key, undefined);
        break;
      case 'model-wanted':
      case 'log':
        break;
    }
  }

  #setModel(key: string, state: ModelState | undefined): void {
    const before = this.models.get(key);
    if (before === state) return;
    if (before === 'loading') this.#loading -= 1;
    if (state === 'loading') this.#loading += 1;
    if (state === undefined) {
      this.models.delete(key);
      this.pinned.delete(key);
    } else this.models.set(key, state);
    this.#observer.modelChanged(this, key);
  }

  /** A failure that the thread only remembered comes without an event of a load. */
  #forgetFailedLoad(key: string, answer: Answer<unknown>): void {
    if ('error' in answer && this.models.get(key) === 'loading') this.#setModel(key, undefined);
  }

  #scheduleExpiry(delayMs: number | undefined): void {
    if (delayMs === undefined || delayMs === -1 || this.#cancelExpiry !== undefined) return;
    this.#cancelExpiry = this.#clock.schedule(() => {
      this.#cancelExpiry = undefined;
      void this.#expire();
    }, delayMs);
  }

  async #expire(): Promise<void> {
    if (this.#state !== 'running') return;
    try {
      const answer = unwrap((await this.#post({ kind: 'expire' })) as Answer<ExpireAnswer>);
      this.#scheduleExpiry(answer.nextInMs);
    } catch (cause) {
      this.#die(cause);
    }
  }
}

/** Whatever else is known of it stays on this side. */
function definitionOf(model: ModelReference): ModelReference {
  const { key, id, path, bytes, format, contents, externalData, sha256, session, weights, warmUp } = model;
  return { key, id, path, bytes, format, contents, externalData, sha256, session, weights, warmUp };
}

function readAnswer(groups: readonly RequestGroup[], { loadMs, verification, calls }: RunAnswer): ReplicaAnswer {
  return {
    loadMs,
    verification,
    calls: calls.map((ofGroup, index) => ofGroup.map((call) => readCall(call, groups[index]?.rows))),
  };
}

/** Its outputs are split only when they are asked for: the next dispatch goes before. */
function readCall(call: CallAnswer, rows: RequestGroup['rows']): ReplicaCall {
  const { requests, joined, runMs, outputs, error, result } = call;
  if (result !== undefined) {
    // Whoever asked a handler knows what it answers.
    return { requests, joined, runMs, error: undefined, outputs: () => [result.value as Outputs] };
  }
  return {
    requests,
    joined,
    runMs,
    error: error && fromErrorRecord(error),
    outputs: () => (outputs === undefined ? [] : splitOutputs(outputs, requests, joined ? rows : undefined)),
  };
}

/** A message is the shorter without it. */
function nonEmpty(keys: readonly string[]): readonly string[] | undefined {
  return keys.length === 0 ? undefined : keys;
}

function unwrap<T>(answer: Answer<T>): T {
  if ('error' in answer) throw fromErrorRecord(answer.error);
  return answer.value;
}

function replicaFailed(id: string, cause: unknown): InfermuxError {
  const retryable = cause instanceof InfermuxError ? cause.retryable : undefined;
  return new InfermuxError('REPLICA_FAILED', `replica ${id} failed: ${messageOf(cause)}`, { cause, retryable });
}
