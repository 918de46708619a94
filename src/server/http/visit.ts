import type { Socket } from 'node:net';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { isTraceparent } from '../../contracts/trace-context.js';
import { NODE, REQUEST_ID } from '../../open-inference/own-keys.js';
import { givenRequestId } from '../request-id.js';
import type { ServerParts } from '../server-parts.js';
import { BodyReader } from './bodies/body-reader.js';
import { clientSignal } from './connection-signal.js';

declare module 'fastify' {
  interface FastifyRequest {
    /** Undefined before the request is looked at. */
    infermuxVisit: Visit | undefined;
  }
}

/** Most requests that a client may send ahead on a connection of HTTP/1.1: their answers wait in memory. */
const MOST_AHEAD = 64;
/** Requests that came before the one ahead of them was answered, by connection. */
const waiting = new WeakMap<Socket, number>();

/** Whether a client has sent too many requests ahead on its connection, which is ended then. */
export function isTooFarAhead({ raw: { socket } }: FastifyRequest, { raw: response }: FastifyReply): boolean {
  if (response.socket !== null || (waiting.get(socket) ?? 0) < MOST_AHEAD) return false;
  socket.destroy();
  return true;
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
  #isOver = false;
  #watch: NodeJS.Timeout | undefined;

  constructor(parts: ServerParts, request: FastifyRequest, reply: FastifyReply) {
    this.#parts = parts;
    this.#request = request;
    const given = request.raw.headers[REQUEST_ID];
    this.requestId = (given && givenRequestId(given)) || (parts.options.logRequests ? request.id : undefined);
    if (this.requestId !== undefined) reply.header(REQUEST_ID, this.requestId);
    reply.header(NODE, parts.node.name);
    this.operation = request.routeOptions.config.operation ?? 'Unknown';
    this.response = reply.raw;
    parts.began(this);
    // It comes after the answer, and also without one. A client that does not read its answer keeps its place.
    this.response.on('close', () => this.#end());
    if (this.response.socket === null) this.#endWithConnection(clientSignal(request));
  }

  /** Ends the connection when the client reads nothing of the answer for as long as the limit says. */
  watchAnswer(): void {
    if (this.#isOver) return;
    const { response } = this;
    let unread = Number.POSITIVE_INFINITY;
    this.#watch = setInterval(() => {
      // It waits for the answer to a request that came before on the same connection.
      if (response.socket === null) return;
      if (response.writableLength >= unread) response.destroy();
      unread = response.writableLength;
    }, this.#parts.options.limits.writeTimeoutMs);
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
    const { socket } = this.#request.raw;
    waiting.set(socket, (waiting.get(socket) ?? 0) + 1);
    const end = () => this.#end();
    signal.addEventListener('abort', end);
    this.response.on('close', () => {
      waiting.set(socket, (waiting.get(socket) ?? 0) - 1);
      signal.removeEventListener('abort', end);
    });
  }

  #end(): void {
    this.#isOver = true;
    clearInterval(this.#watch);
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
    const trace = traceOf(this.#request);
    const fields = { protocol: 'http', requestId, ...trace, method, path, status, ms: Math.round(ms * 1_000) / 1_000 };
    options.logger?.info(fields, 'request');
  }
}

/** The trace of a request as logs have it, so that its lines are found by it. */
function traceOf({ headers }: FastifyRequest): { readonly traceparent?: string } {
  const { traceparent } = headers;
  return isTraceparent(traceparent) ? { traceparent } : {};
}

/** The visit that a request of the server's paths is. */
export function visitOf({ infermuxVisit }: FastifyRequest): Visit {
  return infermuxVisit as Visit;
}
