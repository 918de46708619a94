import type { Metadata, ServerInterceptor } from '@grpc/grpc-js';
import { DenseList } from '../../../common/dense-list.js';
import { GRPC_STATUS } from '../../../open-inference/error-statuses.js';
import type { ServerParts } from '../../server-parts.js';
import { type Calls, serviceErrorOf } from '../calls.js';
import type { GrpcConnections } from './grpc-connections.js';
import { type Guard, GuardedCall, type Status } from './guarded-call.js';
import { MessageInflation } from './message-inflation.js';

/** How often the calls are looked at. */
const LOOK_MS = 200;
/** Streams that wait for their clients are open beside the requests that are under way. */
const OPEN_FOR_A_REQUEST = 2;
/** An answer takes no longer than so many times what a client may read nothing, though it reads others. */
const LONGEST_ANSWER_TIMES = 10;

/**
 * Keeps the calls within the limits: refuses those without a key before their message is received, gives up those whose
 * message does not come or that fill the memory with messages that they do not end, and ends the connections of clients
 * that do not read their answers.
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

  refusal(method: string, metadata: Metadata, bytes: number): Status | undefined {
    const { headerBytes, requests } = this.#parts.options.limits;
    if (bytes > headerBytes) return full(`the metadata take more than ${headerBytes} bytes (limits.headerBytes)`);
    if (this.#open.items.length > OPEN_FOR_A_REQUEST * requests) return full('too many calls are open');
    return this.#calls.refusal(method, metadata);
  }

  take(bytes: number): Status | undefined {
    try {
      this.#parts.admission.take(bytes);
      return undefined;
    } catch (cause) {
      return serviceErrorOf(cause) as Status;
    }
  }

  give(bytes: number): void {
    this.#parts.admission.give(bytes);
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
    const { requestTimeoutMs } = this.#parts.options.limits;
    for (const connection of this.#connections()?.all ?? []) connection.look(now);
    const unfinished: GuardedCall[] = [];
    // A call that is ended leaves the list.
    for (const call of [...this.#open.items]) {
      call.look(now);
      const { receivingSince = now, answeredSince } = call;
      if (answeredSince !== undefined) this.endIfUnread(call.getPeer(), answeredSince);
      else if (now - receivingSince > requestTimeoutMs) call.giveUp(TOO_SLOW);
      else if (call.unfinishedBytes > 0) unfinished.push(call);
    }
    this.#boundUnfinished(unfinished);
  }

  /**
   * Ends the connection of a client that reads nothing, or that reads other answers and never this one.
   *
   * @param since when the answer was handed over.
   */
  endIfUnread(peer: string, since: number): void {
    const { writeTimeoutMs } = this.#parts.options.limits;
    const now = performance.now();
    if (now - since <= writeTimeoutMs) return;
    const connection = this.#connections()?.of(peer);
    const isRead = connection !== undefined && now - connection.readAt <= writeTimeoutMs;
    if (!isRead || now - since > LONGEST_ANSWER_TIMES * writeTimeoutMs) connection?.destroy();
  }

  /** Gives up the largest messages that grpc-js holds and that have not ended, where there is no room for all. */
  #boundUnfinished(calls: readonly GuardedCall[]): void {
    const { admission, options } = this.#parts;
    let bytes = calls.reduce((sum, call) => sum + call.unfinishedBytes, admission.bytes);
    if (bytes <= options.limits.totalBodyBytes) return;
    for (const call of [...calls].sort((one, other) => other.unfinishedBytes - one.unfinishedBytes)) {
      if (bytes <= options.limits.totalBodyBytes) return;
      bytes -= call.unfinishedBytes;
      call.giveUp(NO_ROOM);
    }
  }
}

const full = (details: string): Status => ({ code: GRPC_STATUS.RESOURCE_EXHAUSTED, details });

const NO_ROOM = full(
  'the server is full: there is no room for the message, which has not ended (limits.totalBodyBytes)',
);

const TOO_SLOW: Status = {
  code: GRPC_STATUS.DEADLINE_EXCEEDED,
  details: 'the message did not arrive in the time that the server waits for it (limits.requestTimeoutMs)',
};
