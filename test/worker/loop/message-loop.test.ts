import { MessageChannel } from 'node:worker_threads';
import { expect, it } from 'vitest';
import { answerMessages } from '../../../dist/worker/loop/message-loop.js';
import type { MessageWait } from '../../../dist/worker/loop/message-wait.js';
import { PortSource } from '../../../dist/worker/loop/port-source.js';
import { until } from '../../support/until.js';

it('does not sleep once it was told to release its sessions, though something unfinished ends after that', async () => {
  const { port1: owner, port2: port } = new MessageChannel();
  const sleeps: number[] = [];
  const wait = { posted: 0, untilPosted: (posted: number) => sleeps.push(posted) } as unknown as MessageWait;
  let finish: () => void = () => undefined;
  let rest: Promise<void> | undefined = new Promise((resolve) => {
    finish = resolve;
  });
  const ended = answerMessages(
    new PortSource(port, wait),
    async () => ({ answer: { value: undefined } }),
    () => rest,
  );
  const answers: unknown[] = [];
  owner.on('message', ({ id }) => answers.push(id));
  // Its answer is followed by the wait for the rest.
  owner.postMessage({ id: 1, message: { kind: 'health' } });
  await new Promise(setImmediate);
  owner.postMessage({ id: 2, message: { kind: 'release' } });
  await ended;
  rest = undefined;
  finish();
  await until(() => answers.length === 2);
  expect(sleeps).toEqual([]);
  // The port stays open, so that its owner sees when the thread is gone. Nothing in it is answered any more.
  owner.postMessage({ id: 3, message: { kind: 'health' } });
  await new Promise(setImmediate);
  expect(answers).toEqual([1, 2]);
  owner.close();
});
