import { bytesIn } from '../common/values/value-bytes.js';
import type { Batching } from '../contracts/batching.js';
import { isHandlerKey, type SentTerms } from '../contracts/handler.js';
import type { ModelReference } from '../contracts/model-reference.js';
import type { RequestHints } from '../contracts/request-router.js';
import { commonRows, type Outputs, type ReadFeeds } from '../tensors/tensor.js';

/** A model as routing and replicas know it. */
export interface RoutedModel extends ModelReference {
  /** Undefined for a model that is being looked for, and for a handler's own. */
  readonly version?: number | undefined;
  /** The model's own setting. Default: the engine's. */
  readonly batching?: Batching | undefined;
}

/** A request as it comes to the dispatcher: what a replica has to compute, and on what terms. */
export interface RoutedRequest {
  readonly model: RoutedModel;
  /** Read each time the request is given to a replica. Empty when the request has a payload. */
  readonly feeds: ReadFeeds;
  /** Bytes of the tensors that go to a replica by themselves; 0 when all are small. */
  readonly apartBytes: number;
  /** Set for a handler. */
  readonly payload: RequestPayload | undefined;
  /** Names of the outputs to return; all when undefined. */
  readonly outputs: readonly string[] | undefined;
  /** Whether the feeds were already checked against the model's metadata. */
  readonly checked: boolean;
  /** Higher first. */
  readonly priority: number;
  /** Clock time from which on the caller no longer wants the answer. */
  readonly deadline: number | undefined;
  readonly signal: AbortSignal | undefined;
  /** Called once the request is accepted: takes over those arrays of the feeds that are still the caller's. */
  readonly takeOver: (() => void) | undefined;
  /** For routers. */
  readonly shardKey: string | undefined;
  readonly labels: Readonly<Record<string, string>> | undefined;
  readonly hints: RequestHints | undefined;
  /** Whether it is a shadow of another request: shadows are refused first when many requests wait. */
  readonly isShadow: boolean;
  /** What the observer tells of the request; undefined when it tells nothing. */
  readonly trace: object | undefined;
  /** Called once the request is answered or refused: its feeds are not read any more. */
  readonly releaseFeeds: (() => void) | undefined;
}

/** The value that a handler is given. */
export interface RequestPayload {
  readonly value: unknown;
  /** Set by the replica that has it. Called when nobody needs the answer any more. */
  abandoned: (() => void) | undefined;
  /** The targets of the requests within which it was made, the outermost first, and its own. */
  readonly path: readonly string[];
  /** Whether nobody reads the answer. */
  readonly isShadow: boolean;
  /** Clock time by which its caller needs the answer. */
  readonly deadline: number | undefined;
  /** Takes the items of a stream; undefined when the answer goes as a whole. */
  readonly stream: RequestStream | undefined;
  /** What the handler is told of it; undefined when all is as by default. */
  readonly terms: SentTerms | undefined;
}

/** The caller's end of a stream that answers a request. */
export interface RequestStream {
  /** Items that the replica may send before any of them is taken. */
  readonly ahead: number;
  /** Whether an item has come. Another replica would begin from the first one. */
  readonly hasBegun: boolean;
  /** The request was given to a replica. @param pull tells it that so many items were taken. */
  connected(pull: (items: number) => void): void;
  deliver(items: readonly unknown[]): void;
  /** The handler has ended the answer with an error: the items before it count. */
  failed(): void;
}

/**
 * The priority of requests that a handler makes. They go before all others, and need no slot of their own where a
 * request waits for one like them: otherwise requests that wait for each other might wait for ever.
 */
export const NESTED_PRIORITY = Number.POSITIVE_INFINITY;

/** Whether a handler made the request, which keeps a replica until it has the answer. */
export function isNested({ priority }: Pick<PendingRequest, 'priority'>): boolean {
  return priority === NESTED_PRIORITY;
}

/** Ends the key of a model that is being looked for; no key of another model ends like this. */
const SOUGHT = ' (sought)';

/** A model that is being looked for. @param target the name that requests use. */
export function soughtModel(target: string): RoutedModel {
  return { key: `${target}${SOUGHT}`, id: target, path: '', bytes: 0 };
}

export function isSought({ version, key }: RoutedModel): boolean {
  // The version first: to look at the end of a name takes longer, and this is asked several times for each request.
  return version === undefined && key.endsWith(SOUGHT);
}

/** The answer to a request. Times are in milliseconds. */
export interface RoutedResult {
  readonly model: RoutedModel;
  readonly outputs: Outputs;
  readonly replica: string;
  /** Requests that shared the onnxruntime call. */
  readonly batchSize: number;
  /** From acceptance until the request was given to the replica. */
  readonly queueMs: number;
  readonly loadMs: number;
  readonly runMs: number;
  /** From acceptance to the answer. */
  readonly totalMs: number;
}

/** `resolve` and `reject` of the last {@link newPromise}. A closure for each would add two objects to each request. */
const settlers = {
  resolve: (_value: unknown): void => undefined,
  reject: (_error: Error): void => undefined,
};

function keepSettlers(resolve: (value: unknown) => void, reject: (error: Error) => void): void {
  settlers.resolve = resolve;
  settlers.reject = reject;
}

/** Returns the promise of the next {@link PendingRequest}. */
export function newPromise<T>(): Promise<T> {
  return new Promise<T>(keepSettlers as (resolve: (value: T) => void, reject: (error: Error) => void) => void);
}

/**
 * An accepted request without an answer. It settles its caller's promise once.
 *
 * One object, and no other that lives as long: the collector copies it again and again. Not a literal either: V8 learns
 * that objects of a literal live long, and allocates later ones in the old generation; with them their feeds and answers
 * get there, and the whole heap is collected again and again.
 */
export class PendingRequest implements Omit<RoutedRequest, 'model' | 'takeOver' | 'releaseFeeds'> {
  /** Another one once the model was found. */
  model: RoutedModel;
  readonly feeds: ReadFeeds;
  readonly apartBytes: number;
  readonly payload: RequestPayload | undefined;
  readonly isShadow: boolean;
  readonly trace: object | undefined;
  readonly outputs: readonly string[] | undefined;
  readonly shardKey: string | undefined;
  readonly labels: Readonly<Record<string, string>> | undefined;
  readonly hints: RequestHints | undefined;
  readonly checked: boolean;
  readonly priority: number;
  readonly deadline: number | undefined;
  readonly signal: AbortSignal | undefined;
  /** Order of arrival; a retried request keeps its own. */
  readonly sequence: number;
  readonly acceptedAt: number;
  /** Turns the result into what the caller gets. */
  readonly read: (result: RoutedResult) => unknown;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
  dispatchedAt = 0;
  /** How often the request was given to a replica. */
  attempts = 0;
  /** How often it has waited for another try at a load. */
  loadRetries = 0;
  /** Whether the request is in its model's queue, which sets this and the two neighbours. */
  isWaiting = false;
  previous: PendingRequest | undefined = undefined;
  next: PendingRequest | undefined = undefined;
  /** As in {@link PendingRequestView.inputBytes}; undefined until a router asks. */
  inputBytes: number | undefined = undefined;
  /** Position among the accepted requests; undefined once the request has its answer. */
  position: number | undefined = undefined;
  /** Removes the deadline's timer and the signal's listener, and releases the feeds. */
  cleanUp: (() => void) | undefined;

  /** The request settles the last {@link newPromise}. */
  constructor(request: RoutedRequest, sequence: number, acceptedAt: number, read: (result: RoutedResult) => unknown) {
    this.model = request.model;
    this.feeds = request.feeds;
    this.apartBytes = request.apartBytes;
    this.payload = request.payload;
    this.isShadow = request.isShadow;
    this.trace = request.trace;
    this.outputs = request.outputs;
    this.shardKey = request.shardKey;
    this.labels = request.labels;
    this.hints = request.hints;
    this.checked = request.checked;
    this.priority = request.priority;
    this.deadline = request.deadline;
    this.signal = request.signal;
    this.sequence = sequence;
    this.acceptedAt = acceptedAt;
    this.read = read;
    this.resolve = settlers.resolve;
    this.reject = settlers.reject;
    this.cleanUp = request.releaseFeeds;
  }
}

/** As in {@link PendingRequestView.inputBytes}. */
export function inputBytesOf(request: PendingRequest): number {
  // Kept, because an array that was given away is empty.
  request.inputBytes ??= bytesIn(request.payload === undefined ? dataOf(request.feeds) : request.payload.value);
  return request.inputBytes;
}

function dataOf(feeds: ReadFeeds): unknown[] {
  return Object.values(feeds).map(({ data }) => data);
}

/** Rows along axis 0 that all feeds of the request have, 0 when they differ; a request for a handler counts as one. */
export function rowsOf({ payload, feeds }: Pick<PendingRequest, 'payload' | 'feeds'>): number {
  return payload === undefined ? commonRows(feeds) : 1;
}

/** Whether the request names a method of a handler: it goes alone, beside batches. */
export function namesMethod({ payload }: Pick<PendingRequest, 'payload'>): boolean {
  return payload?.terms?.method !== undefined;
}

/** Whether a handler answers the request: it may run any models, or none. */
export function isHandled({ payload, model }: Pick<PendingRequest, 'payload' | 'model'>): boolean {
  return payload !== undefined || isHandlerKey(model.key);
}
