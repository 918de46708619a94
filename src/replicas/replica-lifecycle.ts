import type { Clock } from '../common/clock.js';
import { InfermuxError, messageOf } from '../common/errors.js';
import type { Answer, HelloAnswer } from '../protocol/messages.js';
import { type ReplicaCounters, STOP_LEVELS } from '../protocol/queue-counters.js';
import { unwrap } from './calls/replica-answer.js';
import { checkTransition, isFinal, type ReplicaState } from './replica-state.js';
import type { ReplicaThread } from './replica-thread.js';

export interface LifecycleOptions {
  /** Id of the replica, for messages. */
  readonly id: string;
  readonly startTimeoutMs: number;
}

export interface LifecycleObserver {
  stateChanged(state: ReplicaState): void;
  /** The thread died or could not start. All messages without an answer are about to be rejected. */
  failed(error: InfermuxError): void;
  /** The thread is in no native call and is about to end. */
  ending(): void;
}

/** Starts a replica's thread, ends it only outside native calls, and knows the replica's state. */
export class ReplicaLifecycle {
  /** Resolves when the thread is gone and nothing uses it any more. */
  readonly gone: Promise<void>;
  readonly #options: LifecycleOptions;
  readonly #thread: ReplicaThread;
  readonly #counters: ReplicaCounters;
  readonly #clock: Clock;
  readonly #observer: LifecycleObserver;
  #state: ReplicaState = 'starting';
  #end: Promise<void> | undefined;
  #hello: HelloAnswer | undefined;
  #reportGone: () => void = () => undefined;

  constructor(
    options: LifecycleOptions,
    thread: ReplicaThread,
    counters: ReplicaCounters,
    clock: Clock,
    observer: LifecycleObserver,
  ) {
    this.gone = new Promise((resolve) => {
      this.#reportGone = resolve;
    });
    this.#options = options;
    this.#thread = thread;
    this.#counters = counters;
    this.#clock = clock;
    this.#observer = observer;
  }

  get state(): ReplicaState {
    return this.#state;
  }

  /** What the thread told of itself in its hello; undefined before that. */
  get hello(): HelloAnswer | undefined {
    return this.#hello;
  }

  /**
   * Starts the thread and waits for its hello.
   *
   * @throws InfermuxError `REPLICA_FAILED` with the reason; the replica is then `failed`.
   */
  async start(): Promise<void> {
    let cancelTimeout: () => void = () => undefined;
    const timeout = new Promise<never>((_, reject) => {
      const { startTimeoutMs } = this.#options;
      const tooLate = new InfermuxError('REPLICA_FAILED', `the replica did not start within ${startTimeoutMs} ms`);
      cancelTimeout = this.#clock.schedule(() => reject(tooLate), startTimeoutMs);
    });
    const hello = this.#thread.post({ kind: 'hello' });
    const death = this.#thread.ended.then((cause) => {
      throw cause ?? new Error('the thread ended');
    });
    void this.#thread.ended.then((cause) => this.fail(cause ?? new Error('the thread ended')));
    try {
      this.#hello = unwrap((await Promise.race([hello, death, timeout])) as Answer<HelloAnswer>);
      if (isFinal(this.#state)) throw new Error('the thread ended');
      if (this.#state !== 'starting') return;
      this.#become('running');
    } catch (cause) {
      this.fail(cause);
      throw replicaFailed(this.#options.id, cause);
    } finally {
      cancelTimeout();
      hello.catch(() => undefined);
      death.catch(() => undefined);
    }
  }

  /**
   * Takes no new work, lets given work end, and ends the thread. Resolves when the thread is gone. Idempotent.
   *
   * @param hurry answers given work that has not begun with `REPLICA_FAILED` instead of running it.
   */
  stop({ hurry }: { hurry: boolean }): Promise<void> {
    if (hurry) this.#counters.raiseStop(STOP_LEVELS.stopping);
    if (this.#state === 'starting' || this.#state === 'running') this.#become('draining');
    this.#end ??= this.#endThread();
    return this.#end;
  }

  /** Marks the replica as failed: its callers are rejected, and its thread ends as soon as it is in no native call. */
  fail(cause: unknown): void {
    if (isFinal(this.#state)) return;
    const error = replicaFailed(this.#options.id, cause);
    this.#become('failed');
    this.#observer.failed(error);
    this.#thread.rejectAll(error);
    // The thread is usually gone. If it is not, it must not go on working for nobody.
    void this.stop({ hurry: true });
  }

  /** Marks the replica as failed because its thread gave no answer, not even an error. */
  lost(cause: unknown): never {
    this.fail(cause);
    throw cause instanceof InfermuxError ? cause : replicaFailed(this.#options.id, cause);
  }

  async #endThread(): Promise<void> {
    // The last message: the thread answers it after all earlier messages and the last users of their sessions. A thread
    // that never said hello has no sessions, and may never answer.
    if (this.#hello !== undefined && !isFinal(this.#state)) {
      const release = this.#thread.post({ kind: 'release' }).catch(() => undefined);
      await Promise.race([release, this.#thread.ended]);
    }
    this.#counters.raiseStop(STOP_LEVELS.exiting);
    await Promise.race([this.#counters.untilOutsideNativeCall(), this.#thread.ended]);
    if (!isFinal(this.#state)) this.#become('stopped');
    this.#observer.ending();
    this.#thread.terminate();
    await this.#thread.ended;
    this.#thread.rejectAll(new InfermuxError('REPLICA_FAILED', `replica ${this.#options.id} stopped`));
    this.#reportGone();
  }

  #become(state: ReplicaState): void {
    checkTransition(this.#state, state);
    this.#state = state;
    this.#observer.stateChanged(state);
  }
}

function replicaFailed(id: string, cause: unknown): InfermuxError {
  const retryable = cause instanceof InfermuxError ? cause.retryable : undefined;
  return new InfermuxError('REPLICA_FAILED', `replica ${id} failed: ${messageOf(cause)}`, { cause, retryable });
}
