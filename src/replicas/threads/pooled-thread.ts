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
import { ownFile } from '../../common/files/own-file.js';
import { isError } from '../../common/values/realm.js';
import { explainMissing } from './replica-entry.js';

/** The module that every thread begins with. It imports the thread's own entry. */
const THREAD_ENTRY = './thread-entry.cjs';

/** The input of a thread's one task. The task is the thread's life: it ends when the thread is told to end. */
export interface ThreadTask<Settings> {
  readonly settings: Settings;
  /** Carries all messages. */
  readonly port: MessagePort;
}

export interface PooledThreadObserver {
  received(message: unknown): void;
  /** A message came that cannot be read, because memory is lacking. */
  unreadable(error: Error): void;
}

/**
 * A thread, and the port to it. The thread is the only one of a Piscina pool, and its life is the pool's only task: the
 * pool creates the thread, gives it the task, and ends it; a crash or an exit rejects the task. Messages go over a port
 * that the task hands over, not through the pool.
 *
 * Once it has started it does not keep the process up.
 */
export class PooledThread<Settings> {
  /** Resolves when the thread is gone, with the error that ended it; undefined when no error did. */
  readonly ended: Promise<Error | undefined>;
  readonly #entry: URL;
  readonly #settings: Settings;
  readonly #resourceLimits: ResourceLimits | undefined;
  readonly #observer: PooledThreadObserver;
  #reportEnd: (cause: Error | undefined) => void = () => undefined;
  #pool: Piscina | undefined;
  #port: MessagePort | undefined;
  #cause: Error | undefined;
  #isTerminated = false;
  #isGone = false;

  /** @param entry a module whose default export is the task. */
  constructor(
    entry: URL,
    settings: Settings,
    resourceLimits: ResourceLimits | undefined,
    observer: PooledThreadObserver,
  ) {
    this.#entry = entry;
    this.#settings = settings;
    this.#resourceLimits = resourceLimits;
    this.#observer = observer;
    this.ended = new Promise((resolve) => {
      this.#reportEnd = resolve;
    });
  }

  /**
   * The port of the thread closes with the thread, and a message to a closed port is not taken. That `postMessage` says
   * so is not documented: if it stops, every thread counts as gone.
   */
  get isPortOpen(): boolean {
    return (this.#port?.postMessage(undefined) as unknown) === true;
  }

  /**
   * Sends a message; the first one starts the thread.
   *
   * @throws Error why the thread is gone, or cannot be created because memory or threads are used up.
   */
  post(message: unknown, transfer: readonly Transferable[] = []): void {
    if (this.#isGone) throw this.#cause ?? new Error('the thread is gone');
    this.#port ??= this.#start();
    this.#port.postMessage(message, transfer);
  }

  /** Ends the thread whatever it is doing. Idempotent. */
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

  #start(): MessagePort {
    const { port1: port, port2 } = new MessageChannel();
    const pool = new Piscina({
      filename: ownFile(THREAD_ENTRY, import.meta.url).href,
      workerData: { entry: this.#entry.href },
      minThreads: 0,
      maxThreads: 1,
      idleTimeout: Number.POSITIVE_INFINITY,
      atomics: 'disabled',
      recordTiming: false,
      taskQueue: new UnheldTaskQueue(),
      ...(this.#resourceLimits && { resourceLimits: this.#resourceLimits }),
      ...ownFlags(),
    });
    // An error before the thread takes the task does not reject the task.
    pool.on('error', (error) => this.#keepCause(error));
    let life: Promise<void>;
    try {
      const task: ThreadTask<Settings> = { settings: this.#settings, port: port2 };
      life = pool.run(task, { transferList: [port2] });
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
    port.on('message', (message) => this.#observer.received(message));
    // An answer that cannot be read would never come.
    port.on('messageerror', (error) => this.#observer.unreadable(error));
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
        this.#observer.received(next.message);
      }
    } catch (error) {
      this.#observer.unreadable(error as Error);
    }
    port.close();
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
