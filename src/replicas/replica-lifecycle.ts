import type { Clock } from '../common/clock.js';
import { InfermuxError, messageOf } from '../common/errors.js';
import type { Answer, HelloAnswer } from '../protocol/messages.js';
import { type ReplicaCounters, STOP_LEVELS } from '../protocol/queue-counters.js';
import { unwrap } from './calls/replica-answer.js';
import type { ReplicaHost } from './hosts/replica-host.js';
import { checkTransition, isFinal, type ReplicaState } from './replica-state.js';

/** What an idle process has to end by itself when nobody waits any more. */
const RELEASE_MS = 500;

export interface LifecycleOptions {
  /** Id of the replica, for messages. */
  readonly id: string;
  readonly startTimeoutMs: number;
}

export interface LifecycleObserver {
  stateChanged(state: ReplicaState): void;
  /** The host died or could not start. All messages without an answer are about to be rejected. */
  failed(error: InfermuxError): void;
  /** The host is in no native call and is about to end. */
  ending(): void;
}

/** Starts a replica's host, ends a thread only outside native calls, and knows the replica's state. */
export class ReplicaLifecycle {
  /** Resolves when the host is gone and nothing uses it any more. */
  readonly gone: Promise<void>;
  readonly #options: LifecycleOptions;
  readonly #host: ReplicaHost;
  readonly #counters: ReplicaCounters;
  readonly #clock: Clock;
  readonly #observer: LifecycleObserver;
  #state: ReplicaState = 'starting';
  #end: Promise<void> | undefined;
  #hello: HelloAnswer | undefined;
  #reportGone: () => void = () => undefined;

  constructor(
    options: LifecycleOptions,
    host: ReplicaHost,
    counters: ReplicaCounters,
    clock: Clock,
    observer: LifecycleObserver,
  ) {
    this.gone = new Promise((resolve) => {
      this.#reportGone = resolve;
    });
    this.#options = options;
    this.#host = host;
    this.#counters = counters;
    this.#clock = clock;
    this.#observer = observer;
  }

  get state(): ReplicaState {
    return this.#state;
  }

  /** What the replica told of itself in its hello; undefined before that. */
  get hello(): HelloAnswer | undefined {
    return this.#hello;
  }

  /**
   * Starts the host and waits for its hello.
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
    const hello = this.#host.post({ kind: 'hello' });
    const death = this.#host.ended.then((cause) => {
      throw cause ?? this.#endOfHost();
    });
    void this.#host.ended.then((cause) => this.fail(cause ?? this.#endOfHost()));
    try {
      this.#hello = unwrap((await Promise.race([hello, death, timeout])) as Answer<HelloAnswer>);
      if (isFinal(this.#state)) throw this.#endOfHost();
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
   * Takes no new work, lets given work end, and ends the host. Resolves when the host is gone. Idempotent.
   *
   * @param hurry answers given work that has not begun with `REPLICA_FAILED` instead of running it.
   */
  stop({ hurry }: { hurry: boolean }): Promise<void> {
    if (hurry) this.#counters.raiseStop(STOP_LEVELS.stopping);
    if (this.#state === 'starting' || this.#state === 'running') this.#become('draining');
    if (hurry && this.#host.kind === 'process') this.#endSoon();
    this.#end ??= this.#endHost();
    return this.#end;
  }

  /** Marks the replica as failed: its callers are rejected, and its host ends as soon as it is in no native call. */
  fail(cause: unknown): void {
    if (isFinal(this.#state)) return;
    const error = replicaFailed(this.#options.id, cause);
    this.#become('failed');
    this.#observer.failed(error);
    this.#host.rejectAll(error);
    // The host is usually gone. If it is not, it must not go on working for nobody.
    void this.stop({ hurry: true });
  }

  /** Marks the replica as failed because its host gave no answer, not even an error. */
  lost(cause: unknown): never {
    this.fail(cause);
    throw cause instanceof InfermuxError ? cause : replicaFailed(this.#options.id, cause);
  }

  async #endHost(): Promise<void> {
    // The last message: the replica answers it after all earlier messages and the last users of their sessions. A replica
    // that never said hello has no sessions, and may never answer.
    if (this.#hello !== undefined && !isFinal(this.#state)) {
      const release = this.#host.post({ kind: 'release' }).catch(() => undefined);
      await Promise.race([release, this.#host.ended]);
    }
    this.#counters.raiseStop(STOP_LEVELS.exiting);
    await Promise.race([this.#counters.untilOutsideNativeCall(), this.#host.ended]);
    this.#endNow();
    await this.#host.ended;
    this.#host.rejectAll(new InfermuxError('REPLICA_FAILED', `replica ${this.#options.id} stopped`));
    this.#reportGone();
  }

  /** Nobody waits for what it does, and a process can be killed in the middle of it. */
  #endSoon(): void {
    if (this.#host.unanswered !== undefined) this.#endNow();
    // It may dispose of its models, if it answers at all.
    else this.#clock.schedule(() => this.#endNow(), RELEASE_MS);
  }

  /** The error of a host that ended for no known reason. */
  #endOfHost(): Error {
    return new Error(`the ${this.#host.kind} ended`);
  }

  #endNow(): void {
    if (!isFinal(this.#state)) this.#become('stopped');
    this.#observer.ending();
    this.#host.terminate();
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
