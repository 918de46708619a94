import type { FastifyReply, FastifyRequest } from 'fastify';
import { REQUEST_ID } from '../../open-inference/own-keys.js';
import { givenRequestId } from '../request-id.js';
import type { ServerParts } from '../server-parts.js';
import { BodyReader } from './body-reader.js';
import { clientSignal } from './connection-signal.js';

declare module 'fastify' {
  interface FastifyRequest {
    /** Undefined before the request is looked at. */
    infermuxVisit: Visit | undefined;
  }
}

/** One request of a client, from its head to the end of its answer: is admitted, counted and logged. */
export class Visit {
  readonly #parts: ServerParts;
  readonly #request: FastifyRequest;
  readonly #began = performance.now();
  /** What the request is for, in metrics and logs. */
  operation: string;
  /** The client's name for the request, which the answer repeats; or one of the server's own if requests are logged. */
  readonly requestId: string | undefined;
  readonly response: FastifyReply['raw'];
  /** Where it is among the answers that are to come. */
  position: number | undefined;
  #isAdmitted = false;
  #bytes = 0;

  constructor(parts: ServerParts, request: FastifyRequest, reply: FastifyReply) {
    this.#parts = parts;
    this.#request = request;
    const given = request.raw.headers[REQUEST_ID];
    this.requestId = (given && givenRequestId(given)) || (parts.options.logRequests ? request.id : undefined);
    if (this.requestId !== undefined) reply.header(REQUEST_ID, this.requestId);
    this.operation = request.routeOptions.config.operation ?? 'Unknown';
    this.response = reply.raw;
    parts.began(this);
    // It comes after the answer, and also without one. A client that does not read its answer keeps its place.
    this.response.on('close', () => this.#end());
    if (this.response.socket === null) this.#endWithConnection(clientSignal(request));
  }

  /** Milliseconds that the client may leave its answer unread. */
  get writeTimeoutMs(): number {
    return this.#parts.options.limits.writeTimeoutMs;
  }

  /**
   * Counts the request among those under way, and returns the reader of its body, whose bytes count as they come.
   *
   * @param limit what the most bytes are of, for messages.
   * @throws InfermuxError `QUEUE_FULL` when there are too many; as {@link BodyReader}.
   */
  receive(maxBytes: number, limit?: string): BodyReader {
    const { raw } = this.#request;
    const take = (bytes: number) => {
      this.#parts.admission.take(bytes);
      this.#bytes += bytes;
    };
    const body = new BodyReader(raw, this.response, maxBytes, take, limit);
    const length = raw.headers['content-length'];
    this.#parts.admission.enter(length === undefined ? 0 : Number(length));
    this.#isAdmitted = true;
    return body;
  }

  /** The answer waits for that to an earlier request. Node does not tell of its end when the connection ends before. */
  #endWithConnection(signal: AbortSignal): void {
    const end = () => this.#end();
    signal.addEventListener('abort', end);
    this.response.on('close', () => signal.removeEventListener('abort', end));
  }

  #end(): void {
    if (!this.#parts.ended(this)) return;
    const { admission, metrics, options } = this.#parts;
    const { statusCode: status } = this.response;
    if (this.#isAdmitted) admission.leave(this.#bytes);
    else admission.give(this.#bytes);
    const ms = performance.now() - this.#began;
    metrics.answered('http', this.operation, status, ms / 1_000);
    if (!options.logRequests) return;
    const { method, url } = this.#request;
    const { requestId } = this;
    const path = url.split('?', 1)[0];
    const fields = { protocol: 'http', requestId, method, path, status, ms: Math.round(ms * 1_000) / 1_000 };
    options.logger?.info(fields, 'request');
  }
}

/** The visit that a request of the server's paths is. */
export function visitOf({ infermuxVisit }: FastifyRequest): Visit {
  return infermuxVisit as Visit;
}
