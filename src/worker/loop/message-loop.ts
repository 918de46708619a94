import { type MessagePort, receiveMessageOnPort, type Transferable } from 'node:worker_threads';
import { toErrorRecord } from '../../common/values/error-record.js';
import type { Answer, FromThread, ReplicaMessage, ToThread } from '../../protocol/messages.js';
import type { MessageWait } from './message-wait.js';

/** The answer to one message, and the objects to transfer with it. */
export interface Reply {
  readonly answer: Answer<unknown>;
  readonly transfer?: readonly Transferable[];
}

/** Messages in a row before the thread asks for a turn of the event loop; Node may handle a thousand more before it. */
const MESSAGES_PER_TURN = 256;

/**
 * Answers the messages of a port until the last of them, `release`, and all before it are answered; then it reads no
 * more. The port stays open: it closes with the thread, and so tells its owner when the thread is gone.
 *
 * While there is nothing to do the thread waits, and its event loop stands still, so the thread keeps no timers. Each
 * message is answered before the next one is read. Only when a message must wait for something, the event loop runs and
 * brings the others. When messages arrive quickly, the event loop has a turn only now and then: nothing here needs it,
 * but code that an application preloads into its threads might.
 *
 * @param handle must not reject.
 * @param unfinished returns the work that goes on after all answers, if there is any: a load that a handler began and
 *   did not wait for. The thread does not sleep before it is done, since it needs turns of the event loop.
 */
export function answerMessages(
  port: MessagePort,
  wait: MessageWait,
  handle: (message: ReplicaMessage) => Promise<Reply>,
  unfinished: () => Promise<unknown> | undefined = () => undefined,
): Promise<void> {
  let underWay = 0;
  let isWaiting = false;
  let sinceTurn = 0;
  let isReleased = false;
  let end: () => void = () => undefined;
  const ended = new Promise<void>((resolve) => {
    end = resolve;
  });

  const answer = async ({ id, message }: ToThread): Promise<void> => {
    underWay += 1;
    const { answer, transfer = [] } = await handle(message);
    underWay -= 1;
    try {
      port.postMessage({ id, answer } satisfies FromThread, transfer as Transferable[]);
    } catch (error) {
      // There may be no memory for the answer.
      port.postMessage({ id, answer: { error: toErrorRecord(error) } } satisfies FromThread);
    }
    isReleased ||= message.kind === 'release';
    if (isReleased) {
      if (underWay > 0) return;
      port.off('message', receive);
      end();
      return;
    }
    sinceTurn += 1;
    if (sinceTurn < MESSAGES_PER_TURN) serve();
    else setImmediate(afterTurn);
  };

  const receive = (message: ToThread): void => void answer(message);

  const afterTurn = (): void => {
    sinceTurn = 0;
    serve();
  };

  const serve = (): void => {
    while (underWay === 0 && !isWaiting && !isReleased) {
      const rest = unfinished();
      if (rest !== undefined) {
        isWaiting = true;
        void rest.then(() => {
          isWaiting = false;
          serve();
        });
        return;
      }
      // Read before looking for a message: a message that comes later changes the count, and so ends the sleep at once.
      const posted = wait.posted;
      const received = receiveMessageOnPort(port) as { message: ToThread } | undefined;
      if (received === undefined) wait.untilPosted(posted);
      else void answer(received.message);
    }
  };

  port.on('message', receive);
  // Nobody knows which message it was: the thread ends, and with it the wait for an answer.
  port.on('messageerror', (error) => {
    throw error;
  });
  return ended;
}
