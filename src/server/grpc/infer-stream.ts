import type { ServerDuplexStream } from '@grpc/grpc-js';
import { InfermuxError } from '../../index.js';
import { GRPC_STATUS } from '../../open-inference/error-statuses.js';
import type { ReceivedMessage, WireStreamResponse } from '../../open-inference/grpc/infer-messages.js';
import { type Calls, endingError } from './calls.js';

/** Requests of one stream that are under way at a time. */
const MOST_AHEAD = 64;

export type InferStreamCall = ServerDuplexStream<ReceivedMessage, WireStreamResponse>;

export interface InferStreamEnvironment {
  /** Begins to answer a request. Must not reject. */
  answers(message: ReceivedMessage): AsyncGenerator<WireStreamResponse>;
  /** Ends the connection of a client that does not read what was handed over then. */
  endIfUnread(since: number): void;
  /** How often that is to be asked. */
  readonly writeTimeoutMs: number;
}

/** One call of `ModelStreamInfer`: answers its requests in their order, with up to {@link MOST_AHEAD} under way. */
export class InferStream {
  readonly #call: InferStreamCall;
  readonly #calls: Calls;
  readonly #environment: InferStreamEnvironment;
  readonly #began = performance.now();
  /** Resolves when all requests that came so far are answered. */
  #turn: Promise<void> = Promise.resolve();
  #ahead = 0;
  /** Whether the server is being ended. */
  #isEnding = false;
  #isOver = false;
  /** Ends the wait for the message that is being written. */
  #left: (() => void) | undefined;

  constructor(call: InferStreamCall, calls: Calls, environment: InferStreamEnvironment) {
    this.#call = call;
    this.#calls = calls;
    this.#environment = environment;
    call.on('data', (message: ReceivedMessage) => this.#received(message));
    call.on('end', () => void this.#turn.then(() => this.#allAnswered()));
    // It comes also after a call that has ended well.
    call.on('cancelled', () => {
      this.#left?.();
      this.#over(GRPC_STATUS.CANCELLED);
    });
    call.on('error', () => undefined);
    calls.opened(call, () => {
      this.#isEnding = true;
      this.#endIfIdle();
    });
  }

  #received(message: ReceivedMessage): void {
    this.#calls.begun += 1;
    this.#ahead += 1;
    if (this.#ahead === MOST_AHEAD) this.#call.pause();
    // It begins now, and is answered after those before it.
    const answers = this.#environment.answers(message);
    const first = answers.next();
    this.#turn = this.#turn.then(() => this.#answer(answers, first));
  }

  async #answer(
    answers: AsyncGenerator<WireStreamResponse>,
    first: Promise<IteratorResult<WireStreamResponse>>,
  ): Promise<void> {
    try {
      for (let next = await first; next.done !== true; next = await answers.next()) await this.#write(next.value);
    } catch {
      // The client is gone: what waits in its stream ends likewise.
      this.#call.destroy();
    }
    await answers.return(undefined);
    this.#ahead -= 1;
    this.#call.resume();
    if (this.#isEnding) this.#endIfIdle();
  }

  #endIfIdle(): void {
    if (this.#ahead > 0 || this.#isOver) return;
    const error = endingError();
    this.#call.emit('error', error);
    this.#over(error.code as number);
  }

  #allAnswered(): void {
    this.#call.end();
    this.#over(GRPC_STATUS.OK);
  }

  #over(code: number): void {
    if (!this.#isOver) this.#calls.ended('ModelStreamInfer', this.#call, code, this.#began);
    this.#isOver = true;
  }

  /** Writes a message, and waits until the client has taken it: for a while, then the connection is ended. */
  #write(message: WireStreamResponse): Promise<void> {
    const since = performance.now();
    return new Promise((resolve, reject) => {
      const left = () => {
        clearInterval(timer);
        reject(new InfermuxError('CANCELLED', 'the client went away'));
      };
      const timer = setInterval(() => this.#environment.endIfUnread(since), this.#environment.writeTimeoutMs);
      if (this.#call.cancelled || this.#call.destroyed) {
        left();
        return;
      }
      this.#left = left;
      this.#call.write(message, (error: Error | null | undefined) => {
        clearInterval(timer);
        if (error) left();
        else resolve();
      });
    });
  }
}
