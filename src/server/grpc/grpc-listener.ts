import { Server, ServerCredentials, type UntypedServiceImplementation } from '@grpc/grpc-js';
import { untilArrived } from '../../common/tasks/until-arrived.js';
import { healthServiceOf, inferenceServiceOf, loadDefinitions } from '../../open-inference/grpc/service-definition.js';
import { notListening } from '../http/http-listener.js';
import type { Address, ResolvedServer } from '../server-options.js';
import type { ServerParts } from '../server-parts.js';
import { Calls, withReadErrors } from './calls.js';
import { CallGuard } from './guard/call-guard.js';
import { GrpcConnections } from './guard/grpc-connections.js';
import { keepPace } from './guard/keep-pace.js';
import { HealthCalls } from './health-calls.js';
import { InferCalls } from './infer-calls.js';
import { inferenceMethods } from './inference-methods.js';
import { addReflection } from './reflection.js';

/** Listens for gRPC. */
export class GrpcListener {
  readonly #server: Server;
  readonly #connections: GrpcConnections;
  readonly #guard: CallGuard;
  readonly #health: HealthCalls;
  readonly #calls: Calls;

  private constructor(
    server: Server,
    connections: GrpcConnections,
    guard: CallGuard,
    health: HealthCalls,
    calls: Calls,
  ) {
    this.#server = server;
    this.#connections = connections;
    this.#guard = guard;
    this.#health = health;
    this.#calls = calls;
  }

  /** @throws InfermuxError `FAILED_PRECONDITION` when the port cannot be had. */
  static async open(parts: ServerParts, address: Address, options: ResolvedServer): Promise<GrpcListener> {
    const { limits } = options;
    let connections: GrpcConnections | undefined;
    const calls = new Calls(parts);
    const guard = new CallGuard(parts, calls, () => connections);
    const server = new Server({
      'grpc.max_receive_message_length': limits.bodyBytes,
      'grpc.max_send_message_length': -1,
      'grpc.max_concurrent_streams': limits.requests,
      'grpc.max_connection_idle_ms': limits.keepAliveTimeoutMs,
      'grpc-node.max_session_memory': 1_024,
      // Nobody can ask for it, and it takes a tenth of the time of a call.
      'grpc.enable_channelz': 0,
      interceptors: [guard.interceptor],
    } as Record<string, unknown>);
    const definitions = loadDefinitions();
    const health = new HealthCalls(parts);
    const infer = new InferCalls(parts, calls, guard);
    const methods = inferenceMethods(parts, calls, infer, options.admin);
    add(server, withReadErrors(inferenceServiceOf(definitions)), methods);
    calls.isOf('health', 'Watch');
    add(server, withReadErrors(healthServiceOf(definitions)), {
      Check: calls.unary('Check', 'health', (request: { service: string }) => health.check(request)),
      Watch: (call: Parameters<HealthCalls['watch']>[0]) => health.watch(call),
    });
    addReflection(server, definitions, calls, (call) => keepPace(call, guard, limits.writeTimeoutMs));
    const injector = server.createConnectionInjector(credentialsOf(options));
    try {
      connections = await GrpcConnections.open(parts, address, (socket) => injector.injectConnection(socket));
    } catch (cause) {
      server.forceShutdown();
      throw notListening('gRPC', address, cause);
    }
    return new GrpcListener(server, connections, guard, health, calls);
  }

  /** Where it listens, with the port that it was given. */
  get address(): Address {
    return this.#connections.address;
  }

  /**
   * Takes no more calls, and resolves when all are answered. A stream that its client keeps open ends when what was sent on
   * it has arrived and is answered.
   */
  async close(): Promise<void> {
    this.#health.close();
    this.#connections.close();
    const closed = new Promise<void>((resolve) => this.#server.tryShutdown(() => resolve()));
    await Promise.race([untilArrived(() => this.#calls.begun), closed]);
    this.#calls.endStreams();
    await closed;
    this.#guard.close();
  }

  /** Ends all connections. */
  destroy(): void {
    this.#server.forceShutdown();
    this.#connections.destroy();
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
