import {
  type handleBidiStreamingCall,
  type handleUnaryCall,
  Metadata,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type ServiceError,
  type sendUnaryData,
} from '@grpc/grpc-js';
import type { ServiceDefinition } from '@grpc/proto-loader';
import { messageOf, toInfermuxError } from '../../common/errors.js';
import { isTraceparent, traceContextOf } from '../../contracts/trace-context.js';
import { InfermuxError } from '../../index.js';
import { statusesOf } from '../../open-inference/error-statuses.js';
import {
  CODE_METADATA,
  IDEMPOTENCY_KEY,
  NODE,
  REQUEST_ID,
  RETRY_AFTER_METADATA,
} from '../../open-inference/own-keys.js';
import type { Area } from '../access-control.js';
import { ClientSignal } from '../client-signal.js';
import type { Circumstances } from '../inference/inference.js';
import { givenRequestId, nextRequestId, ownKey } from '../request-id.js';
import type { ServerParts } from '../server-parts.js';
import type { Status } from './guard/guarded-call.js';

/** What came in place of a message that cannot be read. */
class Unreadable {
  readonly error: InfermuxError;

  constructor(cause: unknown) {
    const isOwn = cause instanceof InfermuxError;
    this.error = isOwn
      ? cause
      : new InfermuxError('INVALID_ARGUMENT', `the message cannot be read: ${messageOf(cause)}`);
  }
}

/** Returns the service with readers that do not throw: grpc-js would answer that the server is at fault. */
export function withReadErrors(service: ServiceDefinition): ServiceDefinition {
  const methods = Object.entries(service).map(([name, method]) => {
    const read = (bytes: Buffer) => {
      try {
        return method.requestDeserialize(bytes);
      } catch (cause) {
        return new Unreadable(cause);
      }
    };
    return [name, { ...method, requestDeserialize: read }];
  });
  return Object.fromEntries(methods) as ServiceDefinition;
}

/** @throws InfermuxError `INVALID_ARGUMENT` for a message that could not be read. */
export function readable<T>(message: T | Unreadable): T {
  if (message instanceof Unreadable) throw message.error;
  return message as T;
}

/** What all kinds of calls have. */
export type AnyCall = Pick<ServerUnaryCall<unknown, unknown>, 'metadata' | 'cancelled' | 'getDeadline'> &
  Pick<NodeJS.EventEmitter, 'on'>;

/** Returns the error as gRPC tells it. */
export function serviceErrorOf(cause: unknown): Partial<ServiceError> {
  const error = toInfermuxError(cause);
  const metadata = new Metadata();
  metadata.set(CODE_METADATA, error.code);
  if (error.retryAfterMs !== undefined) metadata.set(RETRY_AFTER_METADATA, String(error.retryAfterMs));
  return { code: statusesOf(error).grpc, details: error.message, metadata };
}

/** What ends a stream that its client keeps open when the server is being ended. */
export function endingError(): Partial<ServiceError> {
  return serviceErrorOf(
    new InfermuxError('ENGINE_CLOSED', 'the server is being ended: open the stream again at another one'),
  );
}

/** Answers a call. What it puts into the trailer goes with the answer. */
export type UnaryAnswer<Request, Answer> = (
  request: Request,
  call: ServerUnaryCall<Request, Answer>,
  trailer: Metadata,
) => Answer | Promise<Answer>;

const callCancelled = () => new InfermuxError('CANCELLED', 'the client cancelled the call');

/** Answers calls: checks their keys, counts and logs them, and makes statuses of errors. */
export class Calls {
  readonly #parts: ServerParts;
  readonly #areas = new Map<string, Area>();
  /** Messages of streams that have come so far. */
  begun = 0;
  /** Ends the open streams, each as soon as its requests are answered. */
  readonly #ends = new Set<() => void>();

  constructor(parts: ServerParts) {
    this.#parts = parts;
  }

  /** Registers a stream that its client may keep open for ever. @param end called when the server is being ended. */
  opened(call: AnyCall, end: () => void): void {
    this.#ends.add(end);
    // It comes also after a call that has ended well.
    call.on('cancelled', () => this.#ends.delete(end));
  }

  /** The server is being ended, and would wait for streams that their clients keep open. */
  endStreams(): void {
    for (const end of this.#ends) end();
  }

  /** Says which part of the server a method is of. */
  isOf(area: Area, method: string): void {
    this.#areas.set(method, area);
  }

  /** Returns why a call is refused; undefined when it has a right key. The refusal is counted. */
  refusal(method: string, metadata: Metadata): Status | undefined {
    if (this.#parts.access.isOpen) return undefined;
    const began = performance.now();
    try {
      this.#parts.access.check(this.#areas.get(method) ?? 'inference', (name) => {
        const [value] = metadata.get(name);
        return value === undefined ? undefined : String(value);
      });
      return undefined;
    } catch (cause) {
      const error = serviceErrorOf(cause);
      this.ended(method, { metadata }, error.code as number, began);
      return error as Status;
    }
  }

  /** Returns the handler of a method with one request and one answer. */
  unary<Request, Answer>(
    method: string,
    area: Area,
    answer: UnaryAnswer<Request, Answer>,
  ): handleUnaryCall<Request, Answer> {
    this.isOf(area, method);
    return (call, callback) => void this.#answer(method, call, callback, answer);
  }

  /** Returns the handler of a method with streams of both. */
  duplex<Request, Answer>(
    method: string,
    area: Area,
    answer: (call: ServerDuplexStream<Request, Answer>) => void,
  ): handleBidiStreamingCall<Request, Answer> {
    this.isOf(area, method);
    return (call) => {
      const head = new Metadata();
      head.set(NODE, this.#parts.node.name);
      call.sendMetadata(head);
      answer(call);
    };
  }

  async #answer<Request, Answer>(
    method: string,
    call: ServerUnaryCall<Request, Answer>,
    callback: sendUnaryData<Answer>,
    answer: UnaryAnswer<Request, Answer>,
  ): Promise<void> {
    const began = performance.now();
    const trailer = new Metadata();
    trailer.set(NODE, this.#parts.node.name);
    try {
      const value = await answer(readable(call.request), call, trailer);
      callback(null, value, trailer);
      this.ended(method, call, 0, began);
    } catch (cause) {
      const error = serviceErrorOf(cause);
      error.metadata?.merge(trailer);
      callback(error);
      this.ended(method, call, error.code as number, began);
    }
  }

  /**
   * What the call says beside its message.
   *
   * @param over called when the call is over, well or not.
   */
  circumstances(call: AnyCall, over?: () => void): Circumstances {
    const client = new ClientSignal();
    const cancelled = () => {
      over?.();
      client.abort(callCancelled);
    };
    if (call.cancelled) cancelled();
    else call.on('cancelled', cancelled);
    const deadline = Number(call.getDeadline());
    const first = (name: string) => call.metadata.get(name)[0];
    const traceparent = first('traceparent');
    return {
      signal: client.signal,
      requestId: givenRequestId(first(REQUEST_ID)),
      traceContext: traceparent === undefined ? undefined : traceContextOf(traceparent, first('tracestate')),
      idempotencyKey: ownKey(first(IDEMPOTENCY_KEY), first('authorization') ?? first('x-api-key')),
      deadline: Number.isFinite(deadline) ? deadline : undefined,
    };
  }

  /** Counts and logs a call. @param began `performance.now()` at its begin. */
  ended(method: string, call: Pick<AnyCall, 'metadata'>, code: number, began: number): void {
    const ms = performance.now() - began;
    this.#parts.metrics.answered('grpc', method, code, ms / 1_000);
    if (!this.#parts.options.logRequests) return;
    const requestId = givenRequestId(call.metadata.get(REQUEST_ID)[0]) ?? nextRequestId();
    const [traceparent] = call.metadata.get('traceparent');
    const trace = isTraceparent(traceparent) ? { traceparent } : {};
    const fields = { protocol: 'grpc', requestId, ...trace, method, status: code, ms: Math.round(ms * 1_000) / 1_000 };
    this.#parts.options.logger?.info(fields, 'request');
  }
}
