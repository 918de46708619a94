import { availableParallelism } from 'node:os';
import { lowerThreadPriority } from '../common/thread-priority.js';
import type { ReplicaEvent } from '../protocol/events.js';
import type { FromThread, ReplicaTask } from '../protocol/messages.js';
import { ReplicaCounters } from '../protocol/queue-counters.js';
import { MessageHandler } from './loop/message-handler.js';
import { answerMessages } from './loop/message-loop.js';
import { MessageWait } from './loop/message-wait.js';
import { PortSource } from './loop/port-source.js';

/** The entry of a replica's thread: the one task of its Piscina pool. Resolves after the replica was told to end. */
export default async function replicaWorker({ settings, port }: ReplicaTask): Promise<void> {
  const counters = new ReplicaCounters(settings.counters, settings.counterSlot);
  counters.threadBegan();
  const post = (event: ReplicaEvent) => port.postMessage({ event } satisfies FromThread);
  const handler = new MessageHandler(settings, counters, post);
  if (!settings.isExpress) lowerThreadPriority();
  const wait = new MessageWait(counters, availableParallelism(), () => performance.now());
  await answerMessages(
    new PortSource(port, wait),
    (message) => handler.handle(message),
    () => handler.unfinished(),
  );
}
