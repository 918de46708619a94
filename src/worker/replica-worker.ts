/** The entry of a replica's thread. */
import { availableParallelism } from 'node:os';
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import type { FromThread, ReplicaEvent, WorkerSettings } from '../protocol/messages.js';
import { ReplicaCounters } from '../protocol/queue-counters.js';
import { MessageHandler } from './message-handler.js';
import { answerMessages } from './message-loop.js';
import { MessageWait } from './message-wait.js';
import { goBehindCallingThread } from './thread-priority.js';

const port = parentPort as MessagePort;
const settings = workerData as WorkerSettings;
const counters = new ReplicaCounters(settings.counters, settings.counterSlot);
const post = (event: ReplicaEvent) => port.postMessage({ event } satisfies FromThread);
const handler = new MessageHandler(settings, counters, post);

goBehindCallingThread();
const wait = new MessageWait(counters, availableParallelism(), () => performance.now());

answerMessages(
  port,
  wait,
  (message) => handler.handle(message),
  () => handler.unfinished(),
);
