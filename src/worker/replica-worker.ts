/**
 * The entry of a replica's thread. It must not throw while it is imported: Piscina would never start the thread again and
 * leave its callers hanging. So onnxruntime-node is imported by the first task, which can say what went wrong.
 */
import { type MessagePort, workerData } from 'node:worker_threads';
import { move, transferableSymbol, valueSymbol } from 'piscina';
import { InfermuxError, messageOf } from '../errors.js';
import { toErrorRecord } from '../protocol/error-record.js';
import type {
  Answer,
  ExpireAnswer,
  HelloAnswer,
  ReplicaMessage,
  RunAnswer,
  WorkerSettings,
} from '../protocol/messages.js';
import { ReplicaCounters } from '../protocol/queue-counters.js';
import type { Outputs } from '../tensor.js';
import type { Runtime } from './runtime.js';

const settings = workerData as WorkerSettings;
const counters = new ReplicaCounters(settings.counters, settings.counterSlot);

let runtime: Runtime | undefined;

/** Answers one task; errors are answers too. */
export default async function handle(message: ReplicaMessage): Promise<unknown> {
  switch (message.kind) {
    case 'run': {
      const answer = await answerOf(async (): Promise<RunAnswer> => started().executor.run(message));
      // Before the answer is posted, so that the router sees the slot free as early as it is.
      counters.requestDone('value' in answer);
      return 'value' in answer ? moved(answer, answer.value.outputs) : answer;
    }
    case 'hello':
      return answerOf(() => start(message.events));
    case 'expire':
      return answerOf(async (): Promise<ExpireAnswer> => ({ nextInMs: await started().models.expire() }));
    case 'release':
      return answerOf(async () => runtime?.models.releaseAll());
  }
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

/** Hands the outputs' memory over instead of copying it. */
function moved(answer: Answer<RunAnswer>, outputs: Outputs): unknown {
  const buffers = new Set<ArrayBufferLike>();
  for (const { data } of Object.values(outputs)) {
    if (ArrayBuffer.isView(data)) buffers.add(data.buffer);
  }
  if (buffers.size === 0) return answer;
  return move({
    get [transferableSymbol]() {
      return [...buffers];
    },
    get [valueSymbol]() {
      return answer;
    },
  });
}
