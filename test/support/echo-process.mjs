// A process that answers as `echo.mjs` says.
import { answerMessages } from '../../dist/worker/loop/message-loop.js';
import { FrameSource } from '../../dist/worker/process/frame-source.js';
import { echo } from './echo.mjs';

const source = new FrameSource({
  began: () =>
    void answerMessages(
      source,
      echo((message) => source.post(message)),
    ),
  received: () => undefined,
  told: () => undefined,
  counts: [0, 0, 0],
});
process.on('uncaughtExceptionMonitor', ({ message }) =>
  source.post({ dying: { code: 'INTERNAL', message, retryable: false } }),
);
