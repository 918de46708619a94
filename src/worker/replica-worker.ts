/**
 * The entry of a replica's thread. It must not throw while it is imported: Piscina would never start the thread again and
 * leave its callers hanging. So onnxruntime-node is imported by the first task, which can say what went wrong.
 */
import { type MessagePort, workerData } from 'node:worker_threads';
import { move, transferableSymbol, valueSymbol } from 'piscina';
import { InfermuxError, messageOf } from '../errors.js';
import { packCalls } from '../protocol/call-answers.js';
import { toErrorRecord } from '../protocol/error-record.js';
import type {
  Answer,
  ExpireAnswer,
  HelloAnswer,
  ReplicaMessage,
  RunAnswer,
  RunMessage,
  WorkerSettings,
} from '../protocol/messages.js';
import { ReplicaCounters } from '../protocol/queue-counters.js';
import type { Runtime } from './runtime.js';

const settings = workerData as WorkerSettings;
const counters = new ReplicaCounters(settings.counters, settings.counterSlot);

let runtime: Runtime | undefined;

/** Answers one task; errors are answers too. */
export default function handle(message: ReplicaMessage): Promise<unknown> {
  switch (message.kind) {
    case 'run':
      return run(message);
    case 'hello':
      return answerOf(() => start(message.events));
    case 'expire':
      return answerOf(async (): Promise<ExpireAnswer> => ({ nextInMs: await started().models.expire() }));
    case 'release':
      return answerOf(async () => runtime?.models.releaseAll());
  }
}

async function run(message: RunMessage): Promise<unknown> {
  const requests = requestsIn(message);
  let failed = requests;
  let transfer: readonly ArrayBuffer[] = [];
  let answer: Answer<RunAnswer>;
  try {
    const { loadMs, calls, verification } = await started().executor.run(message);
    const packed = packCalls(calls);
    answer = { value: { loadMs, calls: packed.calls, verification } };
    transfer = packed.transfer;
    failed = 0;
    for (const group of calls) for (const call of group) if (call.error !== undefined) failed += call.requests;
  } catch (error) {
    answer = { error: toErrorRecord(error) };
  }
  // Before the answer is posted, so that the router sees the slot free as early as it is.
  counters.dispatchDone(requests - failed, failed);
  return transfer.length === 0 ? answer : moved(answer, transfer);
}

function requestsIn({ groups }: RunMessage): number {
  let sum = 0;
  for (const { requests } of groups) sum += requests;
  return sum;
}

async function answerOf<T>(work: () => Promise<T>): Promise<Answer<T>> {
  try {
    return { value: await work() };
  } catch (error) {
    return { error: toErrorRecord(error) };
  }
}

async function start(events: MessagePort): Promise<HelloAnswer> {
  // Loading the native library counts as a native call: the thread must not be ended in it.
  if (!counters.enterNativeCall()) throw new InfermuxError('REPLICA_FAILED', 'the replica is stopping');
  try {
    const { startRuntime } = await importRuntime();
    runtime = await startRuntime(settings, counters, (event) => events.postMessage(event));
    return runtime.hello;
  } finally {
    counters.leaveNativeCall();
  }
}

async function importRuntime() {
  try {
    return await import('./runtime.js');
  } catch (cause) {
    const message = `onnxruntime-node could not be loaded; is it installed beside infermux? ${messageOf(cause)}`;
    throw new InfermuxError('REPLICA_FAILED', message, { cause, retryable: false });
  }
}

function started() {
  if (runtime === undefined) throw new InfermuxError('INTERNAL', 'the replica got work before its hello');
  return runtime;
}

/** Hands the buffers over instead of copying them. */
function moved(answer: object, transfer: readonly ArrayBuffer[]): unknown {
  return move({
    get [transferableSymbol]() {
      return transfer;
    },
    get [valueSymbol]() {
      return answer;
    },
  });
}
