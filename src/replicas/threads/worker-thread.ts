import {
  MessageChannel,
  type MessagePort,
  type ResourceLimits,
  receiveMessageOnPort,
  type Transferable,
  type Worker,
} from 'node:worker_threads';
import { ArrayTaskQueue, Piscina } from 'piscina';
import { messageOf } from '../../common/errors.js';
import { isError } from '../../common/values/realm.js';
import type { ReplicaEvent } from '../../protocol/events.js';
import type { FromThread, ReplicaMessage, ReplicaTask, ToThread, WorkerSettings } from '../../protocol/messages.js';
import type { ReplicaCounters } from '../../protocol/queue-counters.js';
import type { ReplicaThread } from '../replica-thread.js';
import { explainMissing } from './replica-entry.js';

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
 * A replica's thread and the port to it. The thread is the only one of a Piscina pool, and its life is the pool's only
 * task: the pool creates the thread, gives it the task, and ends it; a crash or an exit rejects the task. Messages go
 * over a port that the task hands over, not through the pool, and wake the thread through a word in shared memory.
 *
 * The thread starts with the first message and never starts again: the owner decides what follows a crash. Once it
 * has started it does not keep the process up.
 */
export class WorkerThread implements ReplicaThread {
  readonly ended: Promise<Error | undefined>;
  readonly #options: WorkerThreadOptions;
  readonly #counters: ReplicaCounters;
  /**
   * Few, and mostly answered in order. Not a Map: the table that a Map has outgrown refers to the table that replaced
   * it. As soon as one table is in the old generation, all later tables end up there too, with the answers in them, and
   * V8 collects the whole heap every second.
   */
  readonly #unanswered: Unanswered[] = [];
  #onEvent: (event: ReplicaEvent) => void = () => undefined;
  #reportEnd: (cause: Error | undefined) => void = () => undefined;
  #pool: Piscina | undefined;
  #port: MessagePort | undefined;
  #cause: Error | undefined;
  #oldestRejected: ReplicaMessage | undefined;
  #isTerminated = false;
  #isGone = false;
  #lastId = 0;

  /** @param counters the line of the counters that `settings` names. */
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
      this.#unanswered.push({ id, message, resolve, reject });
      this.#counters.messagePosted();
    });
  }

  rejectAll(error: unknown): void {
    this.#oldestRejected ??= this.#unanswered[0]?.message;
    for (const { reject } of this.#unanswered.splice(0)) reject(error);
  }

  terminate(): void {
    if (this.#isTerminated) return;
    this.#isTerminated = true;
    this.#isGone = true;
    if (this.#pool === undefined) {
      this.#reportEnd(this.#cause);
      return;
    }
    const [worker] = this.#pool.threads as Worker[];
    if (worker !== undefined) neverHold(worker);
    void this.#pool.destroy();
  }

  /**
   * The port of the thread closes with the thread, and a message to a closed port is not taken. That `postMessage` says
   * so is not documented: if it stops, every thread counts as gone.
   */
  get isAlive(): boolean {
    // A thread that has not begun has not received its port, which then does not close.
    return this.#counters.hasBegun && (this.#port?.postMessage(undefined) as unknown) === true;
  }

  get unanswered(): ReplicaMessage | undefined {
    return this.#oldestRejected ?? this.#unanswered[0]?.message;
  }

  /** @throws Error when the thread cannot be created, because memory or threads are used up. */
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
    // An error before the thread takes the task does not reject the task.
    pool.on('error', (error) => this.#keepCause(error));
    let life: Promise<void>;
    try {
      life = pool.run({ settings, port: port2 } satisfies ReplicaTask, { transferList: [port2] });
    } catch (error) {
      // Do not destroy the pool: it would reject the task, whose promise nobody has.
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
      // The thread exited before it took the task, so the task cannot report the cause.
      if (pool.queueSize > 0 && !this.#isTerminated) this.#keepCause(new Error(`worker exited with code: ${code}`));
      void pool.destroy();
      this.#receiveRest(port);
      void life.catch(() => undefined).then(() => this.#reportEnd(this.#cause));
    });
    port.on('message', (message: FromThread) => this.#receive(message));
    // An answer that cannot be read, because memory is lacking, would never come.
    port.on('messageerror', (error) => this.rejectAll(error));
    // Only now: a listener for messages refs the port, which would keep the process up.
    port.unref();
    return port;
  }

  #keepCause(error: unknown): Error {
    this.#cause ??= isError(error) ? explainMissing(error) : new Error(messageOf(error));
    return this.#cause;
  }

  /** Receives what is left in the port: when the thread is gone, all its messages are here, but some may be unread. */
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
 * Piscina keeps the process up while a task runs, which is right for work that somebody waits for. The life of a
 * replica must not keep it up: the worker is unreferenced as soon as it has taken the task.
 */
class UnheldTaskQueue extends ArrayTaskQueue {
  override shift(): ReturnType<ArrayTaskQueue['shift']> {
    const task = super.shift();
    // The pool hands the task over in this turn of the event loop, and references the worker then.
    queueMicrotask(() => (task as HandedOver | null)?.workerInfo?.unref());
    return task;
  }
}

/** The part of Piscina's internal task that its public type leaves out. */
interface HandedOver {
  readonly workerInfo?: { unref(): void } | null;
}

/**
 * Native code may hold a thread that was ended, and it must not keep the process up then. Node references a worker when
 * it is ended, and Piscina does when its port has closed.
 */
function neverHold(worker: Worker): void {
  worker.unref();
  worker.ref = () => undefined;
}

/** Drops the flags of `node --input-type=module -e`: a thread inherits them, and cannot start from a file with them. */
function ownFlags(): { execArgv?: string[] } {
  return process.execArgv.some((flag) => flag.startsWith('--input-type')) ? { execArgv: [] } : {};
}
