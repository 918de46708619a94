import {
  MessageChannel,
  type MessagePort,
  type ResourceLimits,
  receiveMessageOnPort,
  type Transferable,
  type Worker,
} from 'node:worker_threads';
import { ArrayTaskQueue, Piscina } from 'piscina';
import type {
  FromThread,
  ReplicaEvent,
  ReplicaMessage,
  ReplicaTask,
  ToThread,
  WorkerSettings,
} from '../../protocol/messages.js';
import type { ReplicaCounters } from '../../protocol/queue-counters.js';
import type { ReplicaThread } from '../replica-thread.js';

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
 * A replica's thread and the way to it. The thread is the only one of a Piscina pool, and its life is the pool's only task:
 * the pool creates the thread, gives it the task, and ends it; a crash or an exit rejects the task. Messages do not go through
 * the pool but over a port that the task hands over, and wake the thread through a word in shared memory.
 *
 * The thread starts with the first message, and is not started again: what follows a crash is for the replica to decide. It
 * does not keep the process up.
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
  #pool: Piscina | undefined;
  #port: MessagePort | undefined;
  #cause: Error | undefined;
  #isTerminated = false;
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
      this.#port ??= this.#start();
      this.#lastId += 1;
      const id = this.#lastId;
      this.#port.postMessage({ id, message } satisfies ToThread, transfer);
      this.#unanswered.push({ id, resolve, reject });
      this.#counters.messagePosted();
    });
  }

  rejectAll(error: unknown): void {
    for (const { reject } of this.#unanswered.splice(0)) reject(error);
  }

  terminate(): void {
    this.#isTerminated = true;
    this.#isGone = true;
    if (this.#pool === undefined) this.#reportEnd(this.#cause);
    else void this.#pool.destroy();
  }

  /** @throws Error when the thread cannot be created, for want of memory or of threads. */
  #start(): MessagePort {
    const { entry, settings, resourceLimits } = this.#options;
    const { port1: port, port2 } = new MessageChannel();
    const pool = new Piscina({
      filename: entry.href,
      minThreads: 0,
      maxThreads: 1,
      idleTimeout: Number.POSITIVE_INFINITY,
      atomics: 'disabled',
      recordTiming: false,
      taskQueue: new UnheldTaskQueue(),
      ...(resourceLimits && { resourceLimits }),
      ...ownFlags(),
    });
    // What happens before the thread takes the task does not reject it.
    pool.on('error', (error) => this.#keepCause(error));
    let life: Promise<void>;
    try {
      life = pool.run({ settings, port: port2 } satisfies ReplicaTask, { transferList: [port2] });
    } catch (error) {
      // The pool must not be destroyed: it would reject the task, whose promise nobody has.
      this.#isGone = true;
      port.close();
      this.#reportEnd(this.#keepCause(error));
      throw error;
    }
    this.#pool = pool;
    life.catch((error) => {
      if (!this.#isTerminated) this.#keepCause(error);
      // A task that could not be sent leaves its thread behind.
      void pool.destroy();
    });
    const [worker] = pool.threads as [Worker];
    worker.once('exit', (code) => {
      this.#isGone = true;
      // It took no task that could tell.
      if (pool.queueSize > 0 && !this.#isTerminated) this.#keepCause(new Error(`worker exited with code: ${code}`));
      void pool.destroy();
      this.#receiveRest(port);
      void life.catch(() => undefined).then(() => this.#reportEnd(this.#cause));
    });
    port.on('message', (message: FromThread) => this.#receive(message));
    // An answer that cannot be read, for want of memory, is an answer that never comes.
    port.on('messageerror', (error) => this.rejectAll(error));
    // Only now: to listen for messages keeps the process up.
    port.unref();
    return port;
  }

  #keepCause(error: unknown): Error {
    this.#cause ??= error instanceof Error ? error : new Error(String(error));
    return this.#cause;
  }

  /** Whatever the thread posted is here when it is gone, and was not necessarily received. */
  #receiveRest(port: MessagePort): void {
    try {
      for (let next = receiveMessageOnPort(port); next !== undefined; next = receiveMessageOnPort(port)) {
        this.#receive(next.message as FromThread);
      }
    } catch (error) {
      this.rejectAll(error);
    }
    port.close();
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

/**
 * Piscina keeps the process up as long as a task runs, which is right for work that somebody waits for. The life of a replica
 * must not: the worker that took the task is let go as soon as it has it.
 */
class UnheldTaskQueue extends ArrayTaskQueue {
  override shift(): ReturnType<ArrayTaskQueue['shift']> {
    const task = super.shift();
    // The pool hands the task over in the same turn, and takes hold of the process then.
    queueMicrotask(() => (task as HandedOver | null)?.workerInfo?.unref());
    return task;
  }
}

/** A task as Piscina's declarations have it within. */
interface HandedOver {
  readonly workerInfo?: { unref(): void } | null;
}

/** A thread inherits the flags of `node --input-type=module -e`, and could not be started from a file with them. */
function ownFlags(): { execArgv?: string[] } {
  return process.execArgv.some((flag) => flag.startsWith('--input-type')) ? { execArgv: [] } : {};
}
