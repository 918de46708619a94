import { writeFileSync } from 'node:fs';
import { lowerThreadPriority } from '../common/thread-priority.js';
import { toErrorRecord } from '../common/values/error-record.js';
import { EXPRESS, PROCESS_FILES } from '../protocol/frames/frame-format.js';
import { hashMemory } from '../protocol/hash-memory.js';
import type { ProcessSettings } from '../protocol/process-messages.js';
import { requestsIn } from '../protocol/request-groups.js';
import { MessageHandler } from './loop/message-handler.js';
import { answerMessages } from './loop/message-loop.js';
import { FrameSource } from './process/frame-source.js';
import { memoryOfProcess } from './process/memory-rules.js';
import { rehearse } from './process/rehearsal.js';
import { startSideThread } from './process/side-thread.js';
import { ToldCounters } from './process/told-counters.js';

/** Far above what others have: when memory is used up, the system ends this process, and not the one that calls it. */
const OUT_OF_MEMORY_SCORE = 800;
/** What a terminal or a supervisor sends to all processes of a group. The calling process decides what to do about it. */
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'] as const;

/**
 * The program of a replica's process. It prepares before it is asked for anything: a process may have been started in
 * advance, so that it can take the place of another one at once.
 */
for (const signal of SIGNALS) process.on(signal, () => undefined);
const started = startSideThread(PROCESS_FILES);
offerToSystem();
const counters = new ToldCounters();
let hasBegun = false;
const source = new FrameSource({
  began: (settings) => void begin(settings),
  received: ({ message }) => {
    if (message.kind === 'run') counters.own.dispatchGiven(requestsIn(message));
  },
  told: (counts) => counters.told(counts),
  get counts() {
    return counters.counts;
  },
});
process.on('uncaughtExceptionMonitor', (error) => source.post({ dying: toErrorRecord(error) }));
void prepare();

async function prepare(): Promise<void> {
  // The side thread keeps its priority, so that it is never late.
  const side = await started;
  if (side !== undefined) source.use(side);
  if (!process.argv.includes(EXPRESS)) lowerThreadPriority();
  try {
    await rehearse(() => hasBegun);
  } catch {
    // The first message meets the same error, and can tell of it.
  }
}

async function begin({ settings }: ProcessSettings): Promise<void> {
  hasBegun = true;
  const { memory, slot, own } = counters;
  const handler = new MessageHandler(
    { ...settings, counters: memory, counterSlot: slot, fileHashes: hashMemory() },
    own,
    (event) => source.post({ event }),
    memoryOfProcess((buffers) => source.useAgain(buffers)),
  );
  await answerMessages(
    source,
    (message) => handler.handle(message),
    () => handler.unfinished(),
  );
}

function offerToSystem(): void {
  try {
    writeFileSync('/proc/self/oom_score_adj', String(OUT_OF_MEMORY_SCORE));
  } catch {
    // Only Linux has this file.
  }
}
