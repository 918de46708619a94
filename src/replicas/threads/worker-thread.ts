import type { ResourceLimits, Transferable } from 'node:worker_threads';
import type { ReplicaEvent } from '../../protocol/events.js';
import type { FromThread, ReplicaMessage, ToThread, WorkerSettings } from '../../protocol/messages.js';
import type { ReplicaCounters } from '../../protocol/queue-counters.js';
import type { ReplicaHost } from '../hosts/replica-host.js';
import { UnansweredMessages } from '../hosts/unanswered-messages.js';
import { PooledThread } from './pooled-thread.js';

export interface WorkerThreadOptions {
  readonly entry: URL;
  readonly settings: WorkerSettings;
  readonly resourceLimits: ResourceLimits | undefined;
}

/**
 * A replica's thread: messages to it and their answers. They wake the thread through a word in shared memory.
 *
 * The thread starts with the first message and never starts again: the owner decides what follows a crash.
 */
export class WorkerThread implements ReplicaHost {
  readonly kind = 'thread';
  readonly pid = undefined;
  /** Timers are late by a millisecond. */
  readonly leadMs = 1;
  readonly #thread: PooledThread<WorkerSettings>;
  readonly #counters: ReplicaCounters;
  readonly #unanswered = new UnansweredMessages();
  #onEvent: (event: ReplicaEvent) => void = () => undefined;

  /** @param counters the line of the counters that `settings` names. */
  constructor({ entry, settings, resourceLimits }: WorkerThreadOptions, counters: ReplicaCounters) {
    this.#counters = counters;
    this.#thread = new PooledThread(entry, settings, resourceLimits, {
      received: (message) => this.#receive(message as FromThread),
      unreadable: (error) => this.rejectAll(error),
    });
  }

  get ended(): Promise<Error | undefined> {
    return this.#thread.ended;
  }

  onEvent(listener: (event: ReplicaEvent) => void): void {
    this.#onEvent = listener;
  }

  post(message: ReplicaMessage, transfer: readonly Transferable[] = []): Promise<unknown> {
    const id = this.#unanswered.nextId();
    try {
      this.#thread.post({ id, message } satisfies ToThread, transfer);
    } catch (cause) {
      return Promise.reject(cause);
    }
    this.#counters.messagePosted();
    return this.#unanswered.add(id, message);
  }

  rejectAll(error: unknown): void {
    this.#unanswered.rejectAll(error);
  }

  terminate(): void {
    this.#thread.terminate();
  }

  /** A thread that has not begun has not received its port, which then does not close. */
  get isAlive(): boolean {
    return this.#counters.hasBegun && this.#thread.isPortOpen;
  }

  get unanswered(): ReplicaMessage | undefined {
    return this.#unanswered.oldest;
  }

  #receive(message: FromThread): void {
    if ('event' in message) this.#onEvent(message.event);
    else this.#unanswered.answered(message.id, message.answer);
  }
}
