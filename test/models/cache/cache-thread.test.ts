import { expect, it } from 'vitest';
import { systemClock } from '../../../dist/common/clock.js';
import { CacheThread, type StartThread } from '../../../dist/models/cache/thread/cache-thread.js';
import type { ToCache } from '../../../dist/models/cache/thread/messages.js';
import { until } from '../../support/until.js';

type Observer = Parameters<StartThread>[2];

it('an answer that comes late goes to no other thread than the one that asked', async () => {
  const threads: { observer: Observer; posted: ToCache[] }[] = [];
  const startThread: StartThread = (_, __, observer) => {
    const posted: ToCache[] = [];
    threads.push({ observer, posted });
    return { post: (message) => void posted.push(message as ToCache), ended: new Promise(() => undefined), terminate };
  };
  const terminate = () => undefined;
  const cache = new CacheThread(
    { directory: '/nowhere', maxBytes: 1, maxModelBytes: 1 },
    { clock: systemClock, startThread, release: async () => true, received: () => undefined },
  );
  let give: (piece: Uint8Array) => void = () => undefined;
  let isAsked = false;
  const next = () => {
    isAsked = true;
    return new Promise<IteratorResult<Uint8Array>>((resolve) => {
      give = (value) => resolve({ done: false, value });
    });
  };
  const model = { name: 'm', fileName: 'model.onnx', bytes: undefined, sha256: undefined };
  const pieces = { [Symbol.asyncIterator]: () => ({ next }) };
  const kept = cache.keep({ ...model, pieces }, new AbortController().signal).catch(({ code }) => code);
  threads[0]?.observer.received({ kind: 'question', question: 1, asked: { kind: 'piece', call: 1 } });
  await until(() => isAsked);
  threads[0]?.observer.unreadable(new Error('no memory'));
  expect(await kept).toBe('MODEL_LOAD_FAILED');
  const removed = cache.remove('/nowhere/folder');
  give(Uint8Array.of(1));
  await new Promise(setImmediate);
  expect(threads.map(({ posted }) => posted.map(({ kind }) => kind))).toEqual([['keep'], ['remove']]);
  threads[1]?.observer.received({ kind: 'done', call: 2, outcome: { value: undefined } });
  await removed;
  cache.close();
});
