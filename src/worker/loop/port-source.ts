import { type MessagePort, receiveMessageOnPort, type Transferable } from 'node:worker_threads';
import type { FromThread, ToThread } from '../../protocol/messages.js';
import type { MessageSource } from './message-source.js';
import type { MessageWait } from './message-wait.js';

/** The messages of a thread. The port stays open: it closes with the thread, and so tells its owner of the end. */
export class PortSource implements MessageSource {
  readonly #port: MessagePort;
  readonly #wait: MessageWait;
  #listener: ((message: ToThread) => void) | undefined;

  constructor(port: MessagePort, wait: MessageWait) {
    this.#port = port;
    this.#wait = wait;
  }

  /** Sleeps until there is a message. */
  next(): ToThread {
    for (;;) {
      // Read before looking for a message: one that comes later changes the count, and so ends the sleep at once.
      const posted = this.#wait.posted;
      const received = receiveMessageOnPort(this.#port) as { message: ToThread } | undefined;
      if (received !== undefined) return received.message;
      this.#wait.untilPosted(posted);
    }
  }

  onMessage(listener: (message: ToThread) => void): void {
    this.#listener = listener;
    this.#port.on('message', listener);
    // Nobody knows which message it was: the thread ends, and with it the wait for an answer.
    this.#port.on('messageerror', (error) => {
      throw error;
    });
  }

  close(): void {
    if (this.#listener !== undefined) this.#port.off('message', this.#listener);
  }

  post(message: FromThread, transfer: readonly Transferable[] = []): void {
    this.#port.postMessage(message, transfer as Transferable[]);
  }
}
