import { connect } from 'node:net';
import { directory } from '../directories.js';
import { freePort } from './hosts.js';
import { type Program, startProgram, until } from './programs.js';

/** A nats-server with JetStream, which keeps its data when it is started again. */
export class NatsServer {
  readonly url: string;
  readonly #args: readonly string[];
  readonly #port: number;
  #program: Program | undefined;

  private constructor(host: string, port: number) {
    this.url = `nats://${host}:${port}`;
    this.#port = port;
    this.#args = ['-js', '-sd', directory(), '-a', '0.0.0.0', '-p', String(port)];
  }

  /** @param host by which others reach this machine. */
  static async start(host = '127.0.0.1'): Promise<NatsServer> {
    const server = new NatsServer(host, await freePort());
    await server.start();
    return server;
  }

  /** @param more flags, this time. */
  async start(more: readonly string[] = []): Promise<void> {
    this.#program = startProgram(['nats-server', ...this.#args, ...more]);
    const program = this.#program;
    await until(async () => {
      const ended = await Promise.race([program.exited, undefined]);
      if (ended !== undefined) throw new Error(`nats-server ended with ${ended}: ${program.output()}`);
      return isListening(this.#port);
    }, 'nats-server');
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    this.#program?.kill(signal);
    await this.#program?.exited;
  }
}

function isListening(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.on('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
}
