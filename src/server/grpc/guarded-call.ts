import type { Metadata, ServerInterceptingCallInterface, ServerInterceptor } from '@grpc/grpc-js';
import type { Positioned } from '../../common/dense-list.js';

type Method = Parameters<ServerInterceptor>[0];
type Listener = Parameters<ServerInterceptingCallInterface['start']>[0];
export type Status = Parameters<ServerInterceptingCallInterface['sendStatus']>[0];

/** Decides about calls, and is told of them. */
export interface Guard {
  /** Returns why a call is refused, before its message is received; undefined when it is taken. */
  refusal(method: string, metadata: Metadata): Status | undefined;
  began(call: GuardedCall): void;
  ended(call: GuardedCall): void;
}

/** A call between grpc-js and its handler: it is refused early, and what it waits for is known. */
export class GuardedCall implements ServerInterceptingCallInterface, Positioned {
  position: number | undefined;
  /** When it began to wait for its message; undefined when that is here. Of a stream nobody knows what is to come. */
  receivingSince: number | undefined;
  /** When the last of its answer was handed over; undefined before. The call ends when the client has read it. */
  answeredSince: number | undefined;
  readonly #guard: Guard;
  readonly #method: Method;
  readonly #call: ServerInterceptingCallInterface;
  #listener: Listener | undefined;
  #isOver = false;

  constructor(guard: Guard, method: Method, call: ServerInterceptingCallInterface) {
    this.#guard = guard;
    this.#method = method;
    this.#call = call;
    this.receivingSince = undefined;
    this.answeredSince = undefined;
  }

  start(listener: Listener): void {
    this.#listener = listener;
    if (!this.#method.requestStream) this.receivingSince = performance.now();
    this.#guard.began(this);
    // It is its own listener: one object less for each call.
    this.#call.start(this);
  }

  onReceiveMetadata(metadata: Metadata): void {
    const path = this.#method.path;
    const refusal = this.#guard.refusal(path.slice(path.lastIndexOf('/') + 1), metadata);
    if (refusal === undefined) this.#listener?.onReceiveMetadata(metadata);
    else this.sendStatus(refusal);
  }

  onReceiveMessage(message: unknown): void {
    this.receivingSince = undefined;
    // grpc-js goes on with what a client has sent before it went away, and would not tell the handler of that.
    if (this.#isOver) return;
    this.#listener?.onReceiveMessage(message);
  }

  onReceiveHalfClose(): void {
    this.receivingSince = undefined;
    if (this.#isOver) return;
    this.#listener?.onReceiveHalfClose();
  }

  onCancel(): void {
    this.#isOver = true;
    this.receivingSince = undefined;
    this.#guard.ended(this);
    this.#listener?.onCancel();
  }

  sendStatus(status: Status): void {
    this.receivingSince = undefined;
    this.answeredSince ??= performance.now();
    this.#call.sendStatus(status);
  }

  sendMetadata(metadata: Metadata): void {
    this.#call.sendMetadata(metadata);
  }

  sendMessage(message: unknown, callback: () => void): void {
    if (!this.#method.responseStream) this.answeredSince ??= performance.now();
    this.#call.sendMessage(message, callback);
  }

  startRead(): void {
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
