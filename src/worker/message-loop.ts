import { type MessagePort, receiveMessageOnPort, type Transferable } from 'node:worker_threads';
import type { Answer, FromThread, ReplicaMessage, ToThread } from '../protocol/messages.js';
import type { MessageWait } from './message-wait.js';

/** The answer to one message, and what is handed over with it. */
export interface Reply {
  readonly answer: Answer<unknown>;
  readonly transfer?: readonly Transferable[];
}

/**
 * Answers the messages of a port, for as long as the thread lives.
 *
 * While there is nothing to do the thread waits, and its event loop stands still: so the thread keeps no timers. Messages are handled one after the other, and answered before the next is looked at, unless one has to wait for
 * something; then the event loop runs and brings the others.
 *
 * @param handle must not reject.
 */
export function answerMessages(
  port: MessagePort,
  wait: MessageWait,
  handle: (message: ReplicaMessage) => Promise<Reply>,
): void {
  let underWay = 0;

  const answer = async ({ id, message }: ToThread): Promise<void> => {
    underWay += 1;
    const { answer, transfer = [] } = await handle(message);
    underWay -= 1;
    const reply: FromThread = { id, answer };
    port.postMessage(reply, transfer as Transferable[]);
    serve();
  };

  const serve = (): void => {
    while (underWay === 0) {
      // Before it is looked for a message: one that comes after that has changed the count, and ends the sleep at once.
      const posted = wait.posted;
      const received = receiveMessageOnPort(port) as { message: ToThread } | undefined;
      if (received === undefined) wait.untilPosted(posted);
      else void answer(received.message);
    }
  };

  port.on('message', (message: ToThread) => void answer(message));
}
