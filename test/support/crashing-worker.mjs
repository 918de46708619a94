// A thread that dies on request, as `crashing.mjs` says.
import { ReplicaCounters } from '../../dist/protocol/queue-counters.js';
import { answerMessages } from '../../dist/worker/loop/message-loop.js';
import { MessageWait } from '../../dist/worker/loop/message-wait.js';
import { PortSource } from '../../dist/worker/loop/port-source.js';
import { crashing } from './crashing.mjs';

export default async function crashingWorker({ settings, port }) {
  const counters = new ReplicaCounters(settings.counters, settings.counterSlot);
  const source = new PortSource(port, new MessageWait(counters, 2, () => performance.now()));
  await answerMessages(
    source,
    crashing(settings, counters, (message) => port.postMessage(message)),
  );
}
