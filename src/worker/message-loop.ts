import { type MessagePort, receiveMessageOnPort, type Transferable } from 'node:worker_threads';
import { toErrorRecord } from '../protocol/error-record.js';
import type { Answer, FromThread, ReplicaMessage, ToThread } from '../protocol/messages.js';
import type { MessageWait } from './message-wait.js';

/** The answer to one message, and what is handed over with it. */
export interface Reply {
  readonly answer: Answer<unknown>;
  readonly transfer?: readonly Transferable[];
}

/** While messages follow each other the event loop is asked for after so many; Node may handle a thousand more before. */
const MESSAGES_PER_TURN = 256;

/**
 * Answers the messages of a port, for as long as the thread lives.
 *
 * While there is nothing to do the thread waits, and its event loop stands still: so the thread keeps no timers. Messages
 * are handled one after the other, and answered before the next is looked at, unless one has to wait for something; then
 * the event loop runs and brings the others. While one message follows the other it has a turn only now and then: nothing
 * here needs it, but what an application preloads into its threads might.
 *
 * @param handle must not reject.
 */
export function answerMessages(
  port: MessagePort,
  wait: MessageWait,
  handle: (message: ReplicaMessage) => Promise<Reply>,
): void {
  let underWay = 0;
  let sinceTurn = 0;

  const answer = async ({ id, message }: ToThread): Promise<void> => {
    underWay += 1;
    const { answer, transfer = [] } = await handle(message);
    underWay -= 1;
    try {
      port.postMessage({ id, answer } satisfies FromThread, transfer as Transferable[]);
    } catch (error) {
      // There may be no memory for it.
      port.postMessage({ id, answer: { error: toErrorRecord(error) } } satisfies FromThread);
    }
    sinceTurn += 1;
    if (sinceTurn < MESSAGES_PER_TURN) serve();
    else setImmediate(afterTurn);
  };

  const afterTurn = (): void => {
    sinceTurn = 0;
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
  // Nobody knows what it was: the thread ends, and with it the wait for an answer.
  port.on('messageerror', (error) => {
    throw error;
  });
}
