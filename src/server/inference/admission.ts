import { InfermuxError } from '../../index.js';

/** How long a client is asked to stay away when there is no room. */
const RETRY_AFTER_MS = 1_000;

/** Bounds what the requests of all protocols take together: refuses early what it has no room for. */
export class Admission {
  readonly #maxRequests: number;
  readonly #maxBytes: number;
  #requests = 0;
  #bytes = 0;

  /** @param maxBytes of all bodies that are being received or answered. */
  constructor(maxRequests: number, maxBytes: number) {
    this.#maxRequests = maxRequests;
    this.#maxBytes = maxBytes;
  }

  /** Requests in progress. */
  get requests(): number {
    return this.#requests;
  }

  /** Bytes of the bodies in memory. */
  get bytes(): number {
    return this.#bytes;
  }

  /**
   * Counts a request, until {@link leave}.
   *
   * @param bytes that it says its body has.
   * @throws InfermuxError `QUEUE_FULL` when there are too many.
   */
  enter(bytes: number): void {
    if (this.#requests >= this.#maxRequests) throw full(`${this.#maxRequests} requests are in progress already`);
    if (bytes > 0 && this.#bytes + bytes > this.#maxBytes) throw this.#tooMuch();
    this.#requests += 1;
  }

  /** Counts bytes that have arrived. @throws InfermuxError `QUEUE_FULL` when there are too many. */
  take(bytes: number): void {
    if (this.#bytes + bytes > this.#maxBytes) throw this.#tooMuch();
    this.#bytes += bytes;
  }

  /**
   * Counts a request whose body is here already.
   *
   * @returns ends that.
   * @throws InfermuxError `QUEUE_FULL` when there are too many.
   */
  admit(bytes: number): () => void {
    this.enter(bytes);
    this.#bytes += bytes;
    return () => this.leave(bytes);
  }

  /** Gives back bytes of {@link take}. */
  give(bytes: number): void {
    this.#bytes -= bytes;
  }

  /** @param bytes that the request took. */
  leave(bytes: number): void {
    this.#requests -= 1;
    this.give(bytes);
  }

  #tooMuch(): InfermuxError {
    return full(`the bodies of all requests take ${this.#maxBytes} bytes already`);
  }
}

function full(reason: string): InfermuxError {
  return new InfermuxError('QUEUE_FULL', `the server is full: ${reason}`, { retryAfterMs: RETRY_AFTER_MS });
}
