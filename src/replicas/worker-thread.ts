import { type ResourceLimits, type Transferable, Worker } from 'node:worker_threads';
import type { FromThread, ReplicaEvent, ReplicaMessage, ToThread, WorkerSettings } from '../protocol/messages.js';
import type { ReplicaCounters } from '../protocol/queue-counters.js';
import type { ReplicaThread } from './replica.js';

interface Unanswered {
  readonly id: number;
  readonly resolve: (answer: unknown) => void;
  readonly reject: (error: unknown) => void;
}

export interface WorkerThreadOptions {
  readonly entry: URL;
  readonly settings: WorkerSettings;
  readonly resourceLimits: ResourceLimits | undefined;
}

/**
 * A replica's thread and the way to it: messages wake it through a word in shared memory, as Piscina's do, and nothing else
 * is on the way. It starts with the first message, and is not started again: a crash is the replica's affair. It does not
 * keep the process up.
 */
export class WorkerThread implements ReplicaThread {
  readonly ended: Promise<Error | undefined>;
  readonly #options: WorkerThreadOptions;
  readonly #counters: ReplicaCounters;
  /**
   * Few, and mostly answered in their order. A Map would do, but its outgrown tables hold on to the one that took their place:
   * as soon as one of them is old, all that come after become old as well, with the answers in them, and V8 collects the whole
   * heap every second.
   */
  readonly #unanswered: Unanswered[] = [];
  #onEvent: (event: ReplicaEvent) => void = () => undefined;
  #reportEnd: (cause: Error | undefined) => void = () => undefined;
  #worker: Worker | undefined;
  #cause: Error | undefined;
  #isGone = false;
  #lastId = 0;

  /** @param counters the same line that `settings` names. */
  constructor(options: WorkerThreadOptions, counters: ReplicaCounters) {
    this.#options = options;
    this.#counters = counters;
    this.ended = new Promise((resolve) => {
      this.#reportEnd = resolve;
    });
  }

  onEvent(listener: (event: ReplicaEvent) => void): void {
    this.#onEvent = listener;
  }

  post(message: ReplicaMessage, transfer: readonly Transferable[] = []): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.#isGone) throw this.#cause ?? new Error('the thread is gone');
      this.#worker ??= this.#start();
      this.#lastId += 1;
      const id = this.#lastId;
      this.#worker.postMessage({ id, message } satisfies ToThread, transfer);
      this.#unanswered.push({ id, resolve, reject });
      this.#counters.messagePosted();
    });
  }

  rejectAll(error: unknown): void {
    for (const { reject } of this.#unanswered.splice(0)) reject(error);
  }

  terminate(): void {
    this.#isGone = true;
    if (this.#worker === undefined) this.#reportEnd(undefined);
    else void this.#worker.terminate();
  }

  /** It can fail at once, for want of memory or of threads. */
  #start(): Worker {
    try {
      const { entry, settings, resourceLimits } = this.#options;
      const worker = new Worker(entry, {
        workerData: settings,
        ...(resourceLimits && { resourceLimits }),
        ...ownFlags(),
      });
      worker.on('message', (message: FromThread) => this.#receive(message));
      // An answer that cannot be read, for want of memory, is an answer that never comes.
      worker.on('messageerror', (error) => this.rejectAll(error));
      worker.on('error', (error) => this.#keepCause(error));
      // Everything that the thread posted has come by then.
      worker.on('exit', (code) => {
        const isExpected = this.#isGone || code === 0;
        this.#isGone = true;
        this.#reportEnd(this.#cause ?? (isExpected ? undefined : new Error(`the thread exited with code ${code}`)));
      });
      // Only now: to listen for messages keeps the process up.
      worker.unref();
      return worker;
    } catch (error) {
      this.#isGone = true;
      this.#reportEnd(this.#keepCause(error));
      throw error;
    }
  }

  #keepCause(error: unknown): Error {
    this.#cause ??= error instanceof Error ? error : new Error(String(error));
    return this.#cause;
  }

  #receive(message: FromThread): void {
    // What an application preloads into its threads may post something of its own.
    if (typeof message !== 'object' || message === null) return;
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

/** A thread inherits the flags of `node --input-type=module -e`, and could not be started from a file with them. */
function ownFlags(): { execArgv?: string[] } {
  return process.execArgv.some((flag) => flag.startsWith('--input-type')) ? { execArgv: [] } : {};
}
