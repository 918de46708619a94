// A replica that dies on request. The first value of a row of the input x, which has rows of four, says how: -1 an
// uncaught error, -2 process.exit, -3 out of heap. A further value names a file: the replica dies only if it can create
// that file, so once. A model whose id starts with "deadly" ends the replica in its load.
import { openSync } from 'node:fs';
import { MessageHandler } from '../../dist/worker/loop/message-handler.js';

/** Returns the function that answers messages. */
export function crashing(settings, counters, post, options) {
  const handler = new MessageHandler(
    settings,
    counters,
    (event) => {
      post({ event });
      if (event.kind === 'model-loading' && event.key.startsWith('deadly')) process.exit(3);
    },
    options,
  );
  return async (message) => {
    // Before the answer, with which transferred arrays are freed.
    const how = message.kind === 'run' ? deadlyRow(message) : undefined;
    const reply = await handler.handle(message);
    return how === undefined ? reply : die(how);
  };
}

function deadlyRow({ groups }) {
  for (const { inputs } of groups) {
    const [{ data, parts = [data] }] = inputs;
    for (const part of parts) {
      for (let row = 0; row < part.length; row += 4) if (part[row] < 0 && isFirst(part[row + 1])) return part[row];
    }
  }
  return undefined;
}

function isFirst(marker) {
  if (marker === 0) return true;
  try {
    openSync(`${process.env.CRASH_MARKERS}/${marker}`, 'wx');
    return true;
  } catch {
    return false;
  }
}

function die(how) {
  if (how === -2) process.exit(3);
  if (how === -3) {
    const hoard = [];
    // Little by little: fast growth makes Node 24 end the whole process instead of the thread more often.
    for (;;) hoard.push({ item: hoard.length, list: [1, 2, 3] });
  }
  // At once: a load that began before the end would be blamed for it.
  process.nextTick(() => {
    throw new Error('thrown in the worker');
  });
  return new Promise(() => undefined);
}
