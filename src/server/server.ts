import { checkOptions, isMilliseconds } from '../common/checks.js';
import type { InferenceEngine } from '../index.js';
import { checkByteOrder } from '../open-inference/raw-tensors.js';
import { GrpcListener } from './grpc/grpc-listener.js';
import { HttpListener } from './http/http-listener.js';
import type { NodeReport } from './node/this-node.js';
import { type Address, type ResolvedServer, resolveServer, type ServerOptions } from './server-options.js';
import { ServerParts } from './server-parts.js';

export interface ServerCloseOptions {
  /** Milliseconds for accepted requests; those without an answer by then are ended. Default 30,000. */
  readonly graceMs?: number | undefined;
}

const GRACE_MS = 30_000;
/** A server for an engine over the Open Inference Protocol. Created by `createServer`. */
export class InferenceServer {
  readonly #parts: ServerParts;
  readonly #options: ResolvedServer;
  readonly #http: HttpListener | undefined;
  readonly #grpc: GrpcListener | undefined;
  readonly #admin: HttpListener | undefined;
  #closing: Promise<void> | undefined;
  #isDestroyed = false;

  /** @internal */
  constructor(
    parts: ServerParts,
    options: ResolvedServer,
    { http, grpc, admin }: { http?: HttpListener; grpc?: GrpcListener; admin?: HttpListener },
  ) {
    this.#parts = parts;
    this.#options = options;
    this.#http = http;
    this.#grpc = grpc;
    this.#admin = admin;
  }

  /** Address of REST; undefined if it is off. */
  get http(): Address | undefined {
    return this.#http?.address;
  }

  /** Address of gRPC; undefined if it is off. */
  get grpc(): Address | undefined {
    return this.#grpc?.address;
  }

  /** Address of the admin part, if it is separate. */
  get admin(): Address | undefined {
    return this.#admin?.address;
  }

  /** Name of this node, which each answer contains. */
  get node(): string {
    return this.#parts.node.name;
  }

  /** Whether requests are answered: the engine is ready, and the server is not being closed. */
  get ready(): boolean {
    return this.#parts.isReady;
  }

  /** Whether {@link close} was called: the server is not ready, but still answers requests. */
  get draining(): boolean {
    return this.#parts.isDraining;
  }

  /** What `GET /v2/node` answers: the load of the server, and the versions of its models. */
  report(): NodeReport {
    return this.#parts.node.report(this.#parts.isReady, this.#parts.isDraining);
  }

  /**
   * Closes the server: it reports that it is not ready, accepts no more connections after `drainDelayMs`, and answers
   * the accepted requests. The engine stays open. Idempotent: the `graceMs` of the first call applies.
   *
   * @throws InfermuxError `INVALID_ARGUMENT` for an invalid `graceMs`; the server then keeps running.
   */
  async close(options: ServerCloseOptions = {}): Promise<void> {
    const { graceMs = GRACE_MS } = checkOptions('close', options, { graceMs: isMilliseconds({ lowest: 0 }) });
    this.#closing ??= this.#close(graceMs);
    return this.#closing;
  }

  /** Ends the server at once, with all connections. Idempotent. */
  async destroy(): Promise<void> {
    this.#isDestroyed = true;
    this.#parts.drain();
    this.#endDelay?.();
    for (const listener of this.#listeners) listener.destroy();
    await this.close({ graceMs: 0 });
  }

  /** {@link close}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #endDelay: (() => void) | undefined;

  get #listeners(): readonly (HttpListener | GrpcListener)[] {
    return [this.#http, this.#grpc, this.#admin].filter((listener) => listener !== undefined);
  }

  async #close(graceMs: number): Promise<void> {
    this.#parts.drain();
    // A balancer of connections sends a client that comes back to another node.
    this.#parts.keepNoConnection();
    if (this.#options.drainDelayMs > 0 && !this.#isDestroyed) await this.#delay(this.#options.drainDelayMs);
    const timer = setTimeout(() => {
      for (const listener of this.#listeners) listener.destroy();
    }, graceMs);
    await Promise.all(this.#listeners.map((listener) => listener.close()));
    clearTimeout(timer);
    this.#parts.close();
  }

  #delay(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#endDelay = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

/**
 * Starts a server for an engine, over REST and gRPC.
 *
 * @throws InfermuxError `INVALID_ARGUMENT` naming the option; `FAILED_PRECONDITION` if a port is not available.
 */
export async function createServer(engine: InferenceEngine, options: ServerOptions = {}): Promise<InferenceServer> {
  checkByteOrder();
  const resolved = resolveServer(options);
  const parts = new ServerParts(engine, resolved);
  const open: { http?: HttpListener; grpc?: GrpcListener; admin?: HttpListener } = {};
  try {
    const { http, grpc, adminAddress, admin } = resolved;
    if (http !== undefined) open.http = await HttpListener.open(parts, http, resolved, { inference: true, admin });
    if (grpc !== undefined) open.grpc = await GrpcListener.open(parts, grpc, resolved);
    if (adminAddress !== undefined)
      open.admin = await HttpListener.open(parts, adminAddress, resolved, { inference: false, admin: true });
    const { node } = resolved;
    const port = open.http?.address.port ?? open.grpc?.address.port;
    if (node === undefined) parts.node.name = `${parts.node.name}:${port}`;
  } catch (error) {
    await Promise.all(Object.values(open).map((listener) => listener.close()));
    parts.close();
    throw error;
  }
  return new InferenceServer(parts, resolved, open);
}
