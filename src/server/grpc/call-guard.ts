import type { Metadata, ServerInterceptor } from '@grpc/grpc-js';
import { DenseList } from '../../common/dense-list.js';
import { GRPC_STATUS } from '../../open-inference/error-statuses.js';
import type { ServerParts } from '../server-parts.js';
import type { Calls } from './calls.js';
import type { GrpcConnection, GrpcConnections } from './grpc-connections.js';
import { type Guard, GuardedCall, type Status } from './guarded-call.js';
import { MessageInflation } from './message-inflation.js';

/** How often the calls are looked at. */
const LOOK_MS = 200;

/**
 * Keeps the calls within the limits: refuses those without a key before their message is received, gives up those whose
 * message does not come, and ends the connections of clients that do not read their answers or fill the memory with
 * messages that they do not end.
 */
export class CallGuard implements Guard {
  readonly #parts: ServerParts;
  readonly #calls: Calls;
  readonly #connections: () => GrpcConnections | undefined;
  readonly #open = new DenseList<GuardedCall>();
  #timer: NodeJS.Timeout | undefined;

  constructor(parts: ServerParts, calls: Calls, connections: () => GrpcConnections | undefined) {
    this.#parts = parts;
    this.#calls = calls;
    this.#connections = connections;
  }

  /** grpc-js asks for its own class, and uses the methods of its interface. */
  readonly interceptor: ServerInterceptor = (method, call) =>
    new GuardedCall(this, method, call) as unknown as ReturnType<ServerInterceptor>;

  refusal(method: string, metadata: Metadata): Status | undefined {
    return this.#calls.refusal(method, metadata);
  }

  inflation(): MessageInflation {
    return new MessageInflation(this.#parts.admission, this.#parts.options.limits.bodyBytes);
  }

  began(call: GuardedCall): void {
    this.#open.add(call);
    this.#timer ??= setInterval(() => this.#look(), LOOK_MS).unref();
  }

  ended(call: GuardedCall): void {
    this.#open.remove(call);
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #look(): void {
    if (this.#open.items.length === 0) {
      clearInterval(this.#timer);
      this.#timer = undefined;
      return;
    }
    const now = performance.now();
    const { requestTimeoutMs, writeTimeoutMs } = this.#parts.options.limits;
    const unfinished = new Map<GrpcConnection, number>();
    // A call that is ended leaves the list.
    for (const call of [...this.#open.items]) {
      call.look(now);
      const { receivingSince = now, answeredSince = now } = call;
      if (now - answeredSince > writeTimeoutMs) {
        this.#connectionOf(call)?.destroy();
        this.#open.remove(call);
      } else if (now - receivingSince > requestTimeoutMs) call.sendStatus(TOO_SLOW);
      else {
        const bytes = call.unfinishedBytes;
        const connection = bytes === 0 ? undefined : this.#connectionOf(call);
        if (connection !== undefined) unfinished.set(connection, (unfinished.get(connection) ?? 0) + bytes);
      }
    }
    this.#boundUnfinished(unfinished);
  }

  /** @param unfinished bytes that grpc-js holds of messages that have not ended. */
  #boundUnfinished(unfinished: ReadonlyMap<GrpcConnection, number>): void {
    let bytes = this.#parts.admission.bytes;
    let largest: GrpcConnection | undefined;
    for (const [connection, own] of unfinished) {
      bytes += own;
      if (own > (largest === undefined ? 0 : (unfinished.get(largest) ?? 0))) largest = connection;
    }
    if (bytes > this.#parts.options.limits.totalBodyBytes) largest?.destroy();
  }

  #connectionOf(call: GuardedCall): GrpcConnection | undefined {
    return this.#connections()?.of(call.getPeer());
  }
}

const TOO_SLOW: Status = {
  code: GRPC_STATUS.DEADLINE_EXCEEDED,
  details: 'the message did not arrive in the time that the server waits for it (limits.requestTimeoutMs)',
};
