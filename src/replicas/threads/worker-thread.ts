import type { ResourceLimits, Transferable } from 'node:worker_threads';
import type { ReplicaEvent } from '../../protocol/events.js';
import type { FromThread, ReplicaMessage, ToThread, WorkerSettings } from '../../protocol/messages.js';
import type { ReplicaCounters } from '../../protocol/queue-counters.js';
import type { ReplicaThread } from '../replica-thread.js';
import { PooledThread } from './pooled-thread.js';

interface Unanswered {
  readonly id: number;
  readonly message: ReplicaMessage;
  readonly resolve: (answer: unknown) => void;
  readonly reject: (error: unknown) => void;
}

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
export class WorkerThread implements ReplicaThread {
  readonly #thread: PooledThread<WorkerSettings>;
  readonly #counters: ReplicaCounters;
  /**
   * Few, and mostly answered in order. Not a Map: the table that a Map has outgrown refers to the table that replaced
   * it. As soon as one table is in the old generation, all later tables end up there too, with the answers in them, and
   * V8 collects the whole heap every second.
   */
  readonly #unanswered: Unanswered[] = [];
  #onEvent: (event: ReplicaEvent) => void = () => undefined;
  #oldestRejected: ReplicaMessage | undefined;
  #lastId = 0;

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
    return new Promise((resolve, reject) => {
      this.#lastId += 1;
      const id = this.#lastId;
      this.#thread.post({ id, message } satisfies ToThread, transfer);
      this.#unanswered.push({ id, message, resolve, reject });
      this.#counters.messagePosted();
    });
  }

  rejectAll(error: unknown): void {
    this.#oldestRejected ??= this.#unanswered[0]?.message;
    for (const { reject } of this.#unanswered.splice(0)) reject(error);
  }

  terminate(): void {
    this.#thread.terminate();
  }

  /** A thread that has not begun has not received its port, which then does not close. */
  get isAlive(): boolean {
    return this.#counters.hasBegun && this.#thread.isPortOpen;
  }

  get unanswered(): ReplicaMessage | undefined {
    return this.#oldestRejected ?? this.#unanswered[0]?.message;
  }

  #receive(message: FromThread): void {
    if ('event' in message) {
      this.#onEvent(message.event);
      return;
    }
    const index = this.#unanswered.findIndex(({ id }) => id === message.id);
    if (index === -1) return;
    const [unanswered] = this.#unanswered.splice(index, 1);
    unanswered?.resolve(message.answer);
  }
}
