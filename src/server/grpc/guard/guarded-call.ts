import type { Metadata, ServerInterceptingCallInterface, ServerInterceptor } from '@grpc/grpc-js';
import type { Positioned } from '../../../common/dense-list.js';
import {
  bytesOfLastMessage,
  bytesOfMetadata,
  forget,
  isCompressed,
  isMidMessage,
  joinSmallParts,
  readMessagesBy,
} from './library-call.js';
import type { MessageInflation } from './message-inflation.js';

type Method = Parameters<ServerInterceptor>[0];
type Listener = Parameters<ServerInterceptingCallInterface['start']>[0];
export type Status = Parameters<ServerInterceptingCallInterface['sendStatus']>[0];

/** Decides about calls, and is told of them. */
export interface Guard {
  /**
   * Returns why a call is refused, before its message is received; undefined when it is taken.
   *
   * @param bytes that its metadata take.
   */
  refusal(method: string, metadata: Metadata, bytes: number): Status | undefined;
  /** Counts bytes that a call holds. @returns why it cannot have them. */
  take(bytes: number): Status | undefined;
  give(bytes: number): void;
  /** For a call whose messages are compressed. */
  inflation(): MessageInflation;
  began(call: GuardedCall): void;
  ended(call: GuardedCall): void;
}

/** The end of the path of the method that counts by itself what its messages take. */
const OWN_COUNT = '/ModelInfer';
/** Fewer bytes of metadata or of a message are not counted. */
const LEAST_COUNTED_BYTES = 1_024;

/** A call between grpc-js and its handler: it is refused early, and what it waits for is known. */
export class GuardedCall implements ServerInterceptingCallInterface, Positioned {
  position: number | undefined;
  /**
   * When it began to wait for its message; undefined when that is whole. Of a stream, which may wait for good, it is when a
   * message was first seen to have begun.
   */
  receivingSince: number | undefined;
  /** When the last of its answer was handed over; undefined before. The call ends when the client has read it. */
  answeredSince: number | undefined;
  readonly #guard: Guard;
  readonly #method: Method;
  readonly #call: ServerInterceptingCallInterface;
  #listener: Listener | undefined;
  #inflation: MessageInflation | undefined;
  /** Bytes that it holds until it is over. */
  #bytes = 0;
  #isOver = false;
  /** Whether its handler is ready for the next message of a stream. */
  #isReading = false;

  constructor(guard: Guard, method: Method, call: ServerInterceptingCallInterface) {
    this.#guard = guard;
    this.#method = method;
    this.#call = call;
    this.receivingSince = undefined;
    this.answeredSince = undefined;
  }

  start(listener: Listener): void {
    this.#listener = listener;
    if (isCompressed(this.#call)) {
      const inflation = this.#guard.inflation();
      readMessagesBy(this.#call, (contents, encoding) => inflation.read(contents, encoding));
      this.#inflation = inflation;
    }
    if (!this.#method.requestStream) this.receivingSince = performance.now();
    this.#guard.began(this);
    // It is its own listener: one object less for each call.
    this.#call.start(this);
  }

  /** Looks whether a message of a stream has begun and is not whole. */
  look(now: number): void {
    if (this.#isReading && isMidMessage(this.#call)) this.receivingSince ??= now;
    if (this.receivingSince !== undefined) joinSmallParts(this.#call);
  }

  /** Bytes of a message that grpc-js holds because it is not whole, or its call has only half begun. */
  get unfinishedBytes(): number {
    return this.receivingSince === undefined ? 0 : bytesOfLastMessage(this.#call);
  }

  onReceiveMetadata(metadata: Metadata): void {
    const { path } = this.#method;
    const bytes = bytesOfMetadata(metadata);
    const refusal =
      this.#guard.refusal(path.slice(path.lastIndexOf('/') + 1), metadata, bytes) ??
      (bytes < LEAST_COUNTED_BYTES ? undefined : this.#take(bytes));
    if (refusal === undefined) this.#listener?.onReceiveMetadata(metadata);
    else this.giveUp(refusal);
  }

  onReceiveMessage(message: unknown): void {
    // Without a stream the call begins when the client has said that there is no more.
    if (this.#method.requestStream) {
      this.#inflation?.handedOver();
      this.receivingSince = undefined;
      this.#isReading = false;
    }
    // grpc-js goes on with what a client has sent before it went away, and would not tell the handler of that.
    if (this.#isOver) return;
    this.#listener?.onReceiveMessage(message);
  }

  onReceiveHalfClose(): void {
    this.receivingSince = undefined;
    const inflated = this.#inflation?.handedOver() ?? 0;
    if (this.#isOver) return;
    const { requestStream, path } = this.#method;
    const bytes = requestStream || path.endsWith(OWN_COUNT) ? 0 : Math.max(inflated, bytesOfLastMessage(this.#call));
    const refusal = bytes < LEAST_COUNTED_BYTES ? undefined : this.#take(bytes);
    if (refusal === undefined) this.#listener?.onReceiveHalfClose();
    else this.sendStatus(refusal);
  }

  onCancel(): void {
    this.#isOver = true;
    this.#inflation?.end();
    this.#guard.give(this.#bytes);
    this.#bytes = 0;
    this.receivingSince = undefined;
    this.#guard.ended(this);
    this.#listener?.onCancel();
  }

  sendStatus(status: Status): void {
    this.receivingSince = undefined;
    this.answeredSince ??= performance.now();
    this.#call.sendStatus(status);
  }

  /** Ends it before its client has sent all. */
  giveUp(status: Status): void {
    this.sendStatus(status);
    forget(this.#call);
  }

  #take(bytes: number): Status | undefined {
    const refusal = this.#guard.take(bytes);
    if (refusal === undefined) this.#bytes += bytes;
    return refusal;
  }

  sendMetadata(metadata: Metadata): void {
    this.#call.sendMetadata(metadata);
  }

  sendMessage(message: unknown, callback: () => void): void {
    if (!this.#method.responseStream) this.answeredSince ??= performance.now();
    this.#call.sendMessage(message, callback);
  }

  startRead(): void {
    this.#isReading = this.#method.requestStream;
    this.#call.startRead();
  }

  getPeer() {
    return this.#call.getPeer();
  }

  getDeadline() {
    return this.#call.getDeadline();
  }

  getHost() {
    return this.#call.getHost();
  }

  getAuthContext() {
    return this.#call.getAuthContext();
  }

  getConnectionInfo() {
    return this.#call.getConnectionInfo();
  }

  getMetricsRecorder() {
    return this.#call.getMetricsRecorder();
  }
}
