import { createServer, type Server } from 'node:http';
import { connect, type Socket } from 'node:net';

/** How a stub meets a request that is no probe: it closes the connection, or answers with a status. */
export type Meeting = 'close' | number;

/** What proxies take for a node, which does with requests what a test wants. It speaks REST alone. */
export class StubNode {
  /** Bodies of the requests that came, in their order. */
  readonly bodies: string[] = [];
  meeting: Meeting = 200;
  isSteady = true;
  readonly #server: Server;

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
        if (this.meeting === 'close') request.socket.destroy();
        else response.writeHead(this.meeting).end(`{"stub":${this.meeting}}`);
      });
    });
  }

  static async start(): Promise<StubNode> {
    const stub = new StubNode();
    await new Promise<void>((resolve) => stub.#server.listen(0, '127.0.0.1', resolve));
    return stub;
  }

  get address(): string {
    return `127.0.0.1:${(this.#server.address() as { port: number }).port}`;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

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
