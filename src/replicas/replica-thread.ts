import type { Transferable } from 'node:worker_threads';
import type { ReplicaEvent } from '../protocol/events.js';
import type { ReplicaMessage } from '../protocol/messages.js';

/** The thread under a replica. */
export interface ReplicaThread {
  /** Sends one message; the first message starts the thread. Resolves with the answer. */
  post(message: ReplicaMessage, transfer?: readonly Transferable[]): Promise<unknown>;
  /** Rejects all messages that have no answer. The thread never does this by itself, not even when it ends. */
  rejectAll(error: unknown): void;
  /** Sets the listener for the thread's events. Events and answers arrive in the order in which they were sent. */
  onEvent(listener: (event: ReplicaEvent) => void): void;
  /** Resolves when the thread is gone, with the error that ended it; undefined when no error did. */
  readonly ended: Promise<Error | undefined>;
  /** Ends the thread whatever it is doing. Call it only when the thread is in no native call. Idempotent. */
  terminate(): void;
}
