// A thread that answers as `echo.mjs` says; "foreign" posts messages that no replica posts.
import { parentPort } from 'node:worker_threads';
import { ReplicaCounters } from '../../dist/protocol/queue-counters.js';
import { answerMessages } from '../../dist/worker/loop/message-loop.js';
import { MessageWait } from '../../dist/worker/loop/message-wait.js';
import { PortSource } from '../../dist/worker/loop/port-source.js';
import { echo } from './echo.mjs';

export default async function echoWorker({ settings, port }) {
  const counters = new ReplicaCounters(settings.counters, settings.counterSlot);
  const wait = new MessageWait(counters, 2, () => performance.now());
  const foreign = () => {
    for (const thing of ['text', null, 7, { id: 'none' }, {}]) parentPort.postMessage(thing);
  };
  await answerMessages(
    new PortSource(port, wait),
    echo((message) => port.postMessage(message), foreign),
  );
}
