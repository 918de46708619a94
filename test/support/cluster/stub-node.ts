import { createServer, type Server } from 'node:http';
import { createServer as createHttp2Server, type Http2Server, type ServerHttp2Stream } from 'node:http2';
import { type AddressInfo, connect, type Server as NetServer, type Socket } from 'node:net';

/**
 * How a stub meets a request that is no probe: it closes the connection, does so once when half of its answer is sent, or
 * answers with a status of HTTP.
 */
export type Meeting = 'close' | 'cut once' | number;

/** An answer to a run of a model without outputs. */
const REST_ANSWER = '{"model_name":"m","model_version":"1","outputs":[]}';
/** Any answer of gRPC whose first field is the string "m": of ModelInfer, and of what is asked about models. */
const GRPC_ANSWER = Buffer.from([0, 0, 0, 0, 3, 10, 1, 'm'.charCodeAt(0)]);
const UNAVAILABLE = 14;

/** What proxies take for a node, which does with requests what a test wants. */
export class StubNode {
  /** Bodies of the requests that came, in their order. */
  readonly bodies: string[] = [];
  meeting: Meeting = 200;
  isSteady = true;
  readonly #server: Server;
  readonly #grpc: Http2Server;
  readonly #sockets = new Set<Socket>();

  private constructor() {
    this.#server = createServer((request, response) => {
      const parts: Buffer[] = [];
      request.on('data', (bytes) => parts.push(bytes));
      request.on('error', () => undefined);
      request.on('end', () => {
        if (request.url?.startsWith('/v2/health/') === true) {
          const isUnsteady = request.url === '/v2/health/steady' && !this.isSteady;
          response.writeHead(isUnsteady ? 503 : 200).end('{}');
          return;
        }
        this.bodies.push(Buffer.concat(parts).toString());
        const meeting = this.#meet();
        if (meeting === 'close') request.socket.destroy();
        else if (meeting === 'cut once')
          response.writeHead(200, { 'content-length': REST_ANSWER.length }).write('{', () => request.socket.destroy());
        else response.writeHead(meeting).end(REST_ANSWER);
      });
    });
    this.#grpc = createHttp2Server();
    this.#grpc.on('stream', (stream) => this.#call(stream));
    this.#grpc.on('connection', (socket: Socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
    });
  }

  #meet(): Meeting {
    const { meeting } = this;
    if (meeting === 'cut once') this.meeting = 200;
    return meeting;
  }

  #call(stream: ServerHttp2Stream): void {
    const parts: Buffer[] = [];
    stream.on('data', (bytes: Buffer) => parts.push(bytes));
    stream.on('error', () => undefined);
    stream.on('end', () => {
      this.bodies.push(Buffer.concat(parts).toString());
      const meeting = this.#meet();
      if (meeting === 'close') this.#hangUp();
      else if (typeof meeting === 'number' && meeting !== 200)
        stream.respond({ ...GRPC_HEADERS, 'grpc-status': UNAVAILABLE }, { endStream: true });
      else {
        stream.respond(GRPC_HEADERS, { waitForTrailers: true });
        stream.once('wantTrailers', () => stream.sendTrailers({ 'grpc-status': 0 }));
        // The status goes after the message is written, with Node.
        if (meeting === 'cut once') stream.write(GRPC_ANSWER, () => this.#hangUp());
        else stream.end(GRPC_ANSWER);
      }
    });
  }

  #hangUp(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  static async start(): Promise<StubNode> {
    const stub = new StubNode();
    for (const server of [stub.#server, stub.#grpc])
      await new Promise<void>((resolve) => (server as NetServer).listen(0, '127.0.0.1', resolve));
    return stub;
  }

  get http(): string {
    return addressOf(this.#server);
  }

  get grpc(): string {
    return addressOf(this.#grpc);
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    this.#hangUp();
    for (const server of [this.#server, this.#grpc]) await new Promise((resolve) => server.close(resolve));
  }
}

const GRPC_HEADERS = { ':status': 200, 'content-type': 'application/grpc' };

const addressOf = (server: Server | Http2Server) => `127.0.0.1:${(server.address() as AddressInfo).port}`;

export interface RawRequest {
  readonly path: string;
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

/** Sends the headers of a request, and its body only when they have gone: as clients do that write them one after the other. */
export async function sendInParts(address: string, { path, method = 'POST', headers = {}, body = '' }: RawRequest) {
  const [host, port] = address.split(':') as [string, string];
  const socket: Socket = connect(Number(port), host);
  await new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('error', reject));
  const lines = Object.entries({
    host: address,
    'content-length': String(body.length),
    connection: 'close',
    ...headers,
  });
  const head = [`${method} ${path} HTTP/1.1`, ...lines.map(([name, value]) => `${name}: ${value}`), '', ''].join(
    '\r\n',
  );
  await new Promise((resolve) => socket.write(head, resolve));
  // A turn of the other side, at least.
  await new Promise((resolve) => setTimeout(resolve, 50));
  socket.write(body);
  let text = '';
  for await (const bytes of socket) text += bytes;
  const [, status] = /^HTTP\/1\.1 (\d{3})/.exec(text) ?? [];
  return { status: Number(status), text };
}
