import { type AddressInfo, Server, type Socket } from 'node:net';
import fastify, { type FastifyError, type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { untilArrived } from '../../common/tasks/until-arrived.js';
import { InfermuxError } from '../../index.js';
import { nextRequestId } from '../request-id.js';
import type { Address, ResolvedServer } from '../server-options.js';
import type { ServerParts } from '../server-parts.js';
import { addRestSide } from './plugin.js';
import type { RestAreas } from './rest.js';
import { sendError } from './send.js';

/** Longest name of a model in a path. */
const MOST_PATH_CHARACTERS = 8_192;

/** Listens for HTTP. */
export class HttpListener {
  readonly #fastify: FastifyInstance;
  readonly #parts: ServerParts;
  readonly #address: Address;
  readonly #sockets: ReadonlySet<Socket>;

  private constructor(instance: FastifyInstance, parts: ServerParts, address: Address, sockets: ReadonlySet<Socket>) {
    this.#sockets = sockets;
    this.#fastify = instance;
    this.#parts = parts;
    this.#address = address;
  }

  /** @throws InfermuxError `FAILED_PRECONDITION` when the port cannot be had. */
  static async open(
    parts: ServerParts,
    address: Address,
    options: ResolvedServer,
    areas: RestAreas,
  ): Promise<HttpListener> {
    const instance = createFastify(options);
    await addRestSide(instance, parts, areas);
    const { server } = instance;
    server.maxConnections = options.limits.connections;
    const sockets = new Set<Socket>();
    server.on('connection', (socket) => {
      sockets.add(socket);
      parts.metrics.connected('http', 1);
      socket.once('close', () => {
        sockets.delete(socket);
        parts.metrics.connected('http', -1);
      });
    });
    // The body is asked for when it is read, and not if the request is refused.
    server.on('checkContinue', (request, response) => server.emit('request', request, response));
    server.on('checkExpectation', (_request, response) => {
      const error = 'Expect must be 100-continue, or left out';
      response.writeHead(417, { 'content-type': 'application/json' }).end(JSON.stringify({ error }));
    });
    try {
      await instance.listen(address);
    } catch (cause) {
      await instance.close();
      throw notListening('HTTP', address, cause);
    }
    return new HttpListener(instance, parts, address, sockets);
  }

  /** Where it listens, with the port that it was given. */
  get address(): Address {
    const { port } = this.#fastify.server.address() as AddressInfo;
    return { host: this.#address.host, port };
  }

  /**
   * Takes no more connections, and resolves when all requests are answered. Each answer says already that its connection is
   * not kept. What clients have sent before, on connections that seem idle, arrives in a moment: only then those are ended.
   */
  async close(): Promise<void> {
    const { server } = this.#fastify;
    const closed = new Promise<void>((resolve) => Server.prototype.close.call(server, () => resolve()));
    await Promise.race([untilArrived(() => this.#parts.begun), closed]);
    server.closeIdleConnections();
    // Browsers and proxies connect in advance.
    for (const socket of this.#sockets) if (socket.bytesRead === 0) socket.destroy();
    await closed;
    await this.#fastify.close();
  }

  /** Ends all connections. */
  destroy(): void {
    this.#fastify.server.closeAllConnections();
  }
}

/** A path that cannot be decoded reaches no route. */
function sendUrlError(error: FastifyError, _request: FastifyRequest, reply: FastifyReply): void {
  sendError(reply, new InfermuxError('INVALID_ARGUMENT', error.message));
}

const noSchemas = (): never => {
  throw new Error('the routes have no schemas');
};

function createFastify({ limits, tls }: ResolvedServer): FastifyInstance {
  const common = {
    logger: false,
    // Requests that come while the server is being closed are answered, too.
    return503OnClosing: false,
    genReqId: nextRequestId,
    requestTimeout: limits.requestTimeoutMs,
    keepAliveTimeout: limits.keepAliveTimeoutMs,
    routerOptions: { maxParamLength: MOST_PATH_CHARACTERS },
    frameworkErrors: sendUrlError,
    // No route has a schema, and fastify's compilers of schemas take 70 ms to import.
    schemaController: { compilersFactory: { buildValidator: noSchemas, buildSerializer: noSchemas } },
  } as const;
  const server = {
    maxHeaderSize: limits.headerBytes,
    // Node compares the two when it makes the server.
    requestTimeout: limits.requestTimeoutMs,
    headersTimeout: Math.min(limits.headersTimeoutMs, limits.requestTimeoutMs),
    connectionsCheckingInterval: Math.max(100, Math.min(5_000, limits.headersTimeoutMs, limits.requestTimeoutMs)),
    noDelay: true,
  };
  if (tls === undefined) return fastify({ ...common, http: server });
  const secured = {
    ...server,
    ...tls,
    ...(tls.ca === undefined ? {} : { requestCert: true, rejectUnauthorized: true }),
  };
  return fastify({ ...common, https: secured }) as unknown as FastifyInstance;
}

export function notListening(protocol: string, { host, port }: Address, cause: unknown): InfermuxError {
  const { message } = cause as Error;
  // grpc-js gives no code.
  const reason = message.includes('EADDRINUSE')
    ? 'another program listens there; name another port (--http-port, --grpc-port), or 0 for any free one'
    : message;
  return new InfermuxError('FAILED_PRECONDITION', `cannot listen for ${protocol} on ${host}:${port}: ${reason}`, {
    cause,
  });
}
