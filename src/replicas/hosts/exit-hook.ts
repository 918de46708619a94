import { write } from 'node:fs';
import { inspect } from 'node:util';
import { isMainThread } from 'node:worker_threads';
import { show } from '../../common/errors.js';
import { isHandlerKey } from '../../contracts/handler.js';
import type { ReplicaMessage } from '../../protocol/messages.js';
import { type ReplicaCounters, STOP_LEVELS } from '../../protocol/queue-counters.js';

/** A replica whose thread may be there when the process ends. */
export interface GuardedReplica {
  readonly id: string;
  readonly counters: ReplicaCounters;
  readonly thread: GuardedThread;
}

export interface GuardedThread {
  /** Ends the thread, which is in no native call. Idempotent. */
  terminate(): void;
  /** After `terminate`: whether the thread is still there. The event loop stands still meanwhile. */
  readonly isAlive: boolean;
  /** The oldest message that the thread has not answered, also after its sender was rejected. */
  readonly unanswered: ReplicaMessage | undefined;
}

/** Longest time that the end of the process waits for all threads together. */
const LONGEST_WAIT_MS = 20_000;
/** Time between two looks at the threads. */
const LOOK_MS = 1;
/** Time that the last lines have to reach stderr. */
const WRITE_MS = 200;
/**
 * Each ends the process without a core dump. The first may be caught or ignored; it is told from the second, which the
 * system sends when memory is used up.
 */
const SIGNALS = ['SIGALRM', 'SIGKILL'] as const;

const guarded = new Set<GuardedReplica>();
const sleeper = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));

/**
 * Makes the end of the process wait for the replica's thread, whatever ends the process: `process.exit()`, an uncaught
 * error, or that nothing is left to do. Node would end the thread inside a native call, which aborts the process, and
 * would wait for good for a thread that native code does not give back. So this ends each thread outside native calls,
 * and kills the process when a thread is still there after 20 s.
 *
 * @returns a function that removes the guard. Call it when the thread has ended.
 */
export function guardExit(replica: GuardedReplica): () => void {
  // Before other listeners: one that throws or calls `process.exit()` keeps those behind it from being called.
  if (guarded.size === 0) process.prependListener('exit', endThreads);
  guarded.add(replica);
  return () => {
    guarded.delete(replica);
    if (guarded.size === 0) process.off('exit', endThreads);
  };
}

function endThreads(code: number): void {
  const startedAt = performance.now();
  // Raise all flags before the first wait: no other thread may begin a call while this waits for one.
  for (const { counters } of guarded) counters.raiseStop(STOP_LEVELS.exiting);
  let left = [...guarded].filter(isThere);
  while (left.length > 0) {
    if (performance.now() - startedAt >= LONGEST_WAIT_MS) {
      toStderr(lastWords(left));
      // Elsewhere the process is not this engine's to kill.
      if (isMainThread) endProcess(code);
      return;
    }
    sleep(LOOK_MS);
    left = left.filter(isThere);
  }
}

/** Ends the replica's thread if it is in no native call. @returns false when the thread is gone. */
function isThere({ counters, thread }: GuardedReplica): boolean {
  if (counters.isInNativeCall) return true;
  thread.terminate();
  return thread.isAlive;
}

/** Calls the other listeners, as Node would after this one, and kills the process. */
function endProcess(code: number): never {
  // For a listener that calls `process.exit()`: the last step of that waits for the threads.
  Reflect.set(process, 'reallyExit', kill);
  const listeners = process.rawListeners('exit');
  try {
    for (const listener of listeners.slice(listeners.indexOf(endThreads) + 1)) {
      try {
        Reflect.apply(listener, process, [process.exitCode ?? code]);
      } catch (error) {
        toStderr(inspect(error));
      }
    }
  } finally {
    kill();
  }
}

/** Nothing gentler ends the process: all else waits for the threads. */
function kill(): never {
  sleep(WRITE_MS);
  for (const signal of SIGNALS) {
    try {
      process.kill(process.pid, signal);
    } catch {
      // Windows does not know all of them.
    }
  }
  // The first process of a container gets no signals from itself. This writes to stderr at length.
  process.abort();
}

/** Does not wait for the write: stderr may be a pipe that is full and that nobody reads. */
function toStderr(line: string): void {
  write(2, `${line}\n`, () => undefined);
}

function sleep(ms: number): void {
  Atomics.wait(sleeper, 0, 0, ms);
}

function lastWords(left: readonly GuardedReplica[]): string {
  const replicas = left.map(({ id, thread: { unanswered } }) =>
    unanswered === undefined ? `replica ${id}` : `replica ${id} (unanswered: ${nameOf(unanswered)})`,
  );
  const end = isMainThread ? 'The process kills itself.' : 'The worker that holds the engine waits for them.';
  return (
    `infermux: ${LONGEST_WAIT_MS / 1_000} s after the end began, threads are still in native code, where they cannot ` +
    `be ended: ${replicas.join(', ')}. ${end} Keep code that may not return in a process of its own, or leave it out.`
  );
}

function nameOf(message: ReplicaMessage): string {
  if (message.kind === 'hello') return 'its start';
  if (!('model' in message) || typeof message.model !== 'string') return message.kind;
  return isHandlerKey(message.model) ? 'a request of its handler' : `${message.kind} of model ${show(message.model)}`;
}
