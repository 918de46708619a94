import type { Transferable } from 'node:worker_threads';
import { toErrorRecord } from '../../common/values/error-record.js';
import type { Answer, ReplicaMessage, ToThread } from '../../protocol/messages.js';
import type { MessageSource } from './message-source.js';

/** The answer to one message, and the objects to transfer with it. */
export interface Reply {
  readonly answer: Answer<unknown>;
  readonly transfer?: readonly Transferable[];
}

/** Messages in a row before the replica asks for a turn of the event loop; Node may handle a thousand more before it. */
const MESSAGES_PER_TURN = 256;

/**
 * Answers the messages of a source until the last of them, `release`, and all before it are answered; then it reads no
 * more.
 *
 * While there is nothing to do a thread waits, and its event loop stands still, so the thread keeps no timers. Each
 * message is answered before the next one is read. Only when a message must wait for something, the event loop runs and
 * brings the others. When messages arrive quickly, the event loop has a turn only now and then: nothing here needs it,
 * but code that an application preloads into its threads might.
 *
 * @param handle must not reject.
 * @param unfinished returns the work that goes on after all answers, if there is any: a load that a handler began and
 *   did not wait for. The replica does not wait for a message before it is done, since it needs turns of the event loop.
 */
export function answerMessages(
  source: MessageSource,
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
    const { answer, transfer } = await handle(message);
    underWay -= 1;
    try {
      source.post({ id, answer }, transfer);
    } catch (error) {
      // There may be no memory for the answer.
      source.post({ id, answer: { error: toErrorRecord(error) } });
    }
    isReleased ||= message.kind === 'release';
    if (isReleased) {
      if (underWay > 0) return;
      source.close();
      end();
      return;
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
      const next = source.next();
      if (next === undefined) return;
      void answer(next);
    }
  };

  source.onMessage((message) => void answer(message));
  return ended;
}
