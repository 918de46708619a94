// A thread that answers a run with its model's key: at once, or in a later turn of its event loop if the key begins
// with "later". It posts an event when it begins. The key "throw" is an uncaught error and "exit" an exit; "foreign"
// posts a message that no replica posts. The answer to "turned?" is whether the event loop had a turn since the first
// "turned?".
import { parentPort } from 'node:worker_threads';
import { ReplicaCounters } from '../../dist/protocol/queue-counters.js';
import { answerMessages } from '../../dist/worker/loop/message-loop.js';
import { MessageWait } from '../../dist/worker/loop/message-wait.js';

export default async function echoWorker({ settings, port }) {
  const counters = new ReplicaCounters(settings.counters, settings.counterSlot);
  const wait = new MessageWait(counters, 2, () => performance.now());
  let hasTurned = false;

  await answerMessages(port, wait, async ({ model: key, kind }) => {
    if (kind === 'release') return { answer: { value: undefined } };
    port.postMessage({ event: { kind: 'model-loading', key } });
    if (key === 'exit') process.exit(3);
    if (key === 'throw') {
      setImmediate(() => {
        throw new Error('thrown in the thread');
      });
      await new Promise(() => undefined);
    }
    if (key === 'foreign') for (const thing of ['text', null, 7, { id: 'none' }, {}]) parentPort.postMessage(thing);
    if (key === 'turned?') {
      setImmediate(() => {
        hasTurned = true;
      });
      return { answer: { value: hasTurned ? 'yes' : 'no' } };
    }
    if (key.startsWith('later')) await new Promise(setImmediate);
    return { answer: { value: key } };
  });
}
