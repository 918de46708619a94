import type { Transferable } from 'node:worker_threads';
import type { ReplicaEvent } from '../../protocol/events.js';
import type { ReplicaMessage } from '../../protocol/messages.js';

/** What a replica runs in: a thread of this process, or a process of its own. */
export interface ReplicaHost {
  readonly kind: 'thread' | 'process';
  /** Of its process; undefined for a thread, and before it starts. */
  readonly pid: number | undefined;
  /** Milliseconds that a message may take on its way. */
  readonly leadMs: number;
  /** Sends one message; the first message starts the host. Resolves with the answer. */
  post(message: ReplicaMessage, transfer?: readonly Transferable[]): Promise<unknown>;
  /** Rejects all messages that have no answer. The host never does this by itself, not even when it ends. */
  rejectAll(error: unknown): void;
  /** Sets the listener for the replica's events. Events and answers arrive in the order in which they were sent. */
  onEvent(listener: (event: ReplicaEvent) => void): void;
  /** Resolves when the host is gone, with the error that ended it; undefined when no error did. */
  readonly ended: Promise<Error | undefined>;
  /**
   * Ends the host whatever it is doing. Idempotent. Call it only when the counters tell of no native call: a thread
   * must not be ended in one. A process may: its counters tell of none.
   */
  terminate(): void;
  /** After `terminate`: whether the host is still there. The event loop stands still meanwhile. */
  readonly isAlive: boolean;
  /** The oldest message without an answer, also after its sender was rejected. */
  readonly unanswered: ReplicaMessage | undefined;
}
