import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import type { Address } from '../../server-options.js';
import type { ServerParts } from '../../server-parts.js';

/** A connection that can be ended. */
export class GrpcConnection {
  readonly #socket: Socket;
  /** When the client was last seen to have read something. */
  readAt = performance.now();
  #written = 0;

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  /** Looks whether the client has read something. */
  look(now: number): void {
    const written = this.#socket.bytesWritten - this.#socket.writableLength;
    if (written === this.#written) return;
    this.#written = written;
    this.readAt = now;
  }

  /** Whether nothing has come on it. */
  get isSilent(): boolean {
    return this.#socket.bytesRead === 0;
  }

  destroy(): void {
    this.#socket.destroy();
  }
}

/** Accepts the connections of gRPC, so that they can be counted, bounded and ended: grpc-js does none of this. */
export class GrpcConnections {
  readonly #server: Server;
  readonly #address: Address;
  readonly #byPeer = new Map<string, GrpcConnection>();

  private constructor(server: Server, address: Address) {
    this.#server = server;
    this.#address = address;
  }

  /** @param take handles a connection. @throws the error of Node when the port cannot be had. */
  static async open(
    { options, metrics }: ServerParts,
    address: Address,
    take: (socket: Socket) => void,
  ): Promise<GrpcConnections> {
    const { connections: most, headersTimeoutMs } = options.limits;
    const server = createServer({ noDelay: true });
    const connections = new GrpcConnections(server, address);
    server.maxConnections = most;
    server.on('connection', (socket) => {
      const connection = new GrpcConnection(socket);
      const peer = `${socket.remoteAddress}:${socket.remotePort}`;
      connections.#byPeer.set(peer, connection);
      metrics.connected('grpc', 1);
      const timer = setTimeout(() => {
        if (connection.isSilent) socket.destroy();
      }, headersTimeoutMs);
      socket.on('error', () => undefined);
      socket.once('close', () => {
        clearTimeout(timer);
        connections.#byPeer.delete(peer);
        metrics.connected('grpc', -1);
      });
      take(socket);
    });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(address.port, address.host, () => {
        server.off('error', reject);
        resolve();
      });
    });
    return connections;
  }

  /** Where it listens, with the port that it was given. */
  get address(): Address {
    return { host: this.#address.host, port: (this.#server.address() as AddressInfo).port };
  }

  /** @param peer as grpc-js names it. */
  of(peer: string): GrpcConnection | undefined {
    return this.#byPeer.get(peer);
  }

  get all(): Iterable<GrpcConnection> {
    return this.#byPeer.values();
  }

  /** Takes no more connections. */
  close(): void {
    this.#server.close();
    for (const connection of this.#byPeer.values()) if (connection.isSilent) connection.destroy();
  }

  /** Ends all connections. */
  destroy(): void {
    for (const connection of this.#byPeer.values()) connection.destroy();
  }
}
