import { createHash } from 'node:crypto';
import { PROCESS_FILES } from '../../dist/protocol/frames/frame-format.js';
import { answerMessages } from '../../dist/worker/loop/message-loop.js';
import { FrameSource } from '../../dist/worker/process/frame-source.js';
import { startSideThread } from '../../dist/worker/process/side-thread.js';

/** A replica's process that is busy with each message for as long as it says, and answers with the hash of its data. */
const source = new FrameSource({
  began: () => undefined,
  received: () => undefined,
  told: () => undefined,
  counts: [0, 0, 0],
});
for (const event of ['unhandledRejection', 'uncaughtException']) process.on(event, () => undefined);
const side = await startSideThread(PROCESS_FILES);
source.use(side);
await answerMessages(source, async ({ busyMs, waitMs, thenBusyMs, data }) => {
  beBusy(busyMs);
  if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
  beBusy(thenBusyMs);
  const value = createHash('sha1').update(data).digest('hex');
  source.useAgain([data.buffer]);
  return { answer: { value } };
});

function beBusy(milliseconds) {
  const until = performance.now() + milliseconds;
  while (performance.now() < until);
}
