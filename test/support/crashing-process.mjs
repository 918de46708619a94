// A process that dies on request, as `crashing.mjs` says.
import { PROCESS_FILES } from '../../dist/protocol/frames/frame-format.js';
import { hashMemory } from '../../dist/protocol/hash-memory.js';
import { requestsIn } from '../../dist/protocol/request-groups.js';
import { answerMessages } from '../../dist/worker/loop/message-loop.js';
import { FrameSource } from '../../dist/worker/process/frame-source.js';
import { memoryOfProcess } from '../../dist/worker/process/memory-rules.js';
import { startSideThread } from '../../dist/worker/process/side-thread.js';
import { ToldCounters } from '../../dist/worker/process/told-counters.js';
import { crashing } from './crashing.mjs';

const counters = new ToldCounters();
const source = new FrameSource({
  began: ({ settings }) => {
    const { slot, own } = counters;
    const all = { ...settings, counters: counters.memory, counterSlot: slot, fileHashes: hashMemory(16) };
    const memory = memoryOfProcess((buffers) => source.useAgain(buffers));
    void answerMessages(
      source,
      crashing(all, own, (message) => source.post(message), memory),
    );
  },
  received: ({ message }) => {
    if (message.kind === 'run') counters.own.dispatchGiven(requestsIn(message));
  },
  told: (counts) => counters.told(counts),
  get counts() {
    return counters.counts;
  },
});
source.use(await startSideThread(PROCESS_FILES));
