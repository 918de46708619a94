import type { Transferable } from 'node:worker_threads';
import type { FromThread, ToThread } from '../../protocol/messages.js';

/** Where the messages of a replica come from, and where its answers and events go. */
export interface MessageSource {
  /**
   * Returns the next message. A thread waits for it, and its event loop stands still meanwhile; undefined when the event
   * loop must run, which brings the next one.
   */
  next(): ToThread | undefined;
  /** Sets the listener for the messages that the event loop brings. */
  onMessage(listener: (message: ToThread) => void): void;
  /** Brings no more messages. */
  close(): void;
  /**
   * Sends at once: the other side learns of it even if native code blocks this one, or ends it, right after.
   *
   * @throws Error for what cannot be sent, or when memory is lacking.
   */
  post(message: FromThread, transfer?: readonly Transferable[]): void;
}
