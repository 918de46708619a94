import { Server, ServerCredentials, type UntypedServiceImplementation } from '@grpc/grpc-js';
import { untilArrived } from '../../common/tasks/until-arrived.js';
import { healthServiceOf, inferenceServiceOf, loadDefinitions } from '../../open-inference/grpc/service-definition.js';
import { notListening } from '../http/http-listener.js';
import type { Address, ResolvedServer } from '../server-options.js';
import type { ServerParts } from '../server-parts.js';
import { Calls, withReadErrors } from './calls.js';
import { HealthCalls } from './health-calls.js';
import { InferCalls } from './infer-calls.js';
import { inferenceMethods } from './inference-methods.js';
import { addReflection } from './reflection.js';

/** Listens for gRPC. */
export class GrpcListener {
  readonly address: Address;
  readonly #server: Server;
  readonly #health: HealthCalls;
  readonly #calls: Calls;

  private constructor(server: Server, address: Address, health: HealthCalls, calls: Calls) {
    this.#server = server;
    this.address = address;
    this.#health = health;
    this.#calls = calls;
  }

  /** @throws InfermuxError `FAILED_PRECONDITION` when the port cannot be had. */
  static async open(parts: ServerParts, address: Address, options: ResolvedServer): Promise<GrpcListener> {
    const { limits } = options;
    const server = new Server({
      'grpc.max_receive_message_length': limits.bodyBytes,
      'grpc.max_send_message_length': -1,
      'grpc.max_concurrent_streams': limits.requests,
      'grpc.max_metadata_size': limits.headerBytes,
      'grpc-node.max_session_memory': 1_024,
    } as Record<string, number>);
    const definitions = loadDefinitions();
    const calls = new Calls(parts);
    const health = new HealthCalls(parts);
    const methods = inferenceMethods(parts, calls, new InferCalls(parts, calls), options.admin);
    add(server, withReadErrors(inferenceServiceOf(definitions)), methods);
    add(server, withReadErrors(healthServiceOf(definitions)), {
      Check: calls.unary('Check', 'health', (request: { service: string }) => health.check(request)),
      Watch: (call: Parameters<HealthCalls['watch']>[0]) => health.watch(call),
    });
    addReflection(server, definitions, calls);
    const port = await listen(server, address, credentialsOf(options));
    return new GrpcListener(server, { host: address.host, port }, health, calls);
  }

  /**
   * Takes no more calls, and resolves when all are answered. A stream that its client keeps open ends when what was sent on
   * it has arrived and is answered.
   */
  async close(): Promise<void> {
    this.#health.close();
    const closed = new Promise<void>((resolve) => this.#server.tryShutdown(() => resolve()));
    await Promise.race([untilArrived(() => this.#calls.begun), closed]);
    this.#calls.endStreams();
    await closed;
  }

  /** Ends all connections. */
  destroy(): void {
    this.#server.forceShutdown();
  }
}

/** grpc-js and its loader declare the same things twice. */
function add(server: Server, service: object, methods: UntypedServiceImplementation | object): void {
  server.addService(service as Parameters<Server['addService']>[0], methods as UntypedServiceImplementation);
}

function credentialsOf({ tls }: ResolvedServer): ServerCredentials {
  if (tls === undefined) return ServerCredentials.createInsecure();
  const { key, cert, ca } = tls;
  const pair = { private_key: Buffer.from(key), cert_chain: Buffer.from(cert) };
  return ServerCredentials.createSsl(ca === undefined ? null : Buffer.from(ca), [pair], ca !== undefined);
}

function listen(server: Server, address: Address, credentials: ServerCredentials): Promise<number> {
  const host = address.host.includes(':') ? `[${address.host}]` : address.host;
  return new Promise((resolve, reject) => {
    server.bindAsync(`${host}:${address.port}`, credentials, (error, port) => {
      if (error === null) resolve(port);
      else reject(notListening('gRPC', address, error));
    });
  });
}
