import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import type { Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { PROCESS_FILES } from '../../../dist/protocol/frames/frame-format.js';
import { readMessage } from '../../../dist/protocol/frames/frame-message.js';
import { FrameReader } from '../../../dist/protocol/frames/frame-reader.js';
import { writeFrame } from '../../../dist/protocol/frames/frame-writer.js';

interface Asked {
  readonly busyMs: number;
  readonly waitMs: number;
  readonly bytes: number;
}

let replica: ChildProcess;
let lastId = 0;
const answers: { id: number; value: string }[] = [];
let heard: () => void = () => undefined;

const messages = () => replica.stdio[PROCESS_FILES.messages] as Socket;

beforeAll(() => {
  const program = fileURLToPath(new URL('../../support/echoing-replica.mjs', import.meta.url));
  replica = spawn(process.execPath, [program], { stdio: ['ignore', 'inherit', 'inherit', 'pipe', 'pipe', 'pipe'] });
  const reader = new FrameReader((frame) => {
    const { id, answer } = readMessage(frame) as { id: number; answer: { value: string } };
    answers.push({ id, value: answer.value });
    heard();
    return true;
  });
  (replica.stdio[PROCESS_FILES.answers] as Socket).on('data', (chunk: Buffer) => reader.push(chunk));
});

afterAll(() => replica.kill('SIGKILL'));

/** @returns what the answer has to be. */
function send({ busyMs, waitMs, bytes }: Asked): { id: number; value: string } {
  lastId += 1;
  const data = new Uint8Array(bytes).fill(lastId % 251);
  for (const piece of writeFrame({ id: lastId, message: { kind: 'ask', busyMs, waitMs, data } }, [0, 0, 0]))
    messages().write(piece);
  return { id: lastId, value: createHash('sha1').update(data).digest('hex') };
}

function untilAnswers(count: number): Promise<void> {
  return new Promise((resolve) => {
    heard = () => {
      if (answers.length >= count) resolve();
    };
    heard();
  });
}

it('brings every message whole, in order and once, whichever thread reads it', { timeout: 60_000 }, async () => {
  const size = fc.oneof(fc.nat(2_000), fc.constantFrom(20_000, 70_000, 300_000, 1_000_000));
  // Short ones in a row, after which this thread reads again, and long ones, during which the other does.
  const short = fc.array(fc.record({ busyMs: fc.constant(0), waitMs: fc.constantFrom(0, 0, 0, 1), bytes: size }), {
    minLength: 8,
    maxLength: 30,
  });
  const long = fc.array(fc.record({ busyMs: fc.constantFrom(1.5, 3), waitMs: fc.constantFrom(0, 0, 1), bytes: size }), {
    minLength: 1,
    maxLength: 4,
  });
  const all = fc.array(fc.oneof(short, long), { minLength: 1, maxLength: 8 }).map((each) => each.flat());
  await fc.assert(
    fc.asyncProperty(all, fc.array(fc.integer({ min: 1, max: 12 }), { minLength: 1 }), async (asked, atOnce) => {
      answers.length = 0;
      const expected: { id: number; value: string }[] = [];
      for (let at = 0, turn = 0; at < asked.length; turn += 1) {
        const count = atOnce[turn % atOnce.length] as number;
        for (const each of asked.slice(at, at + count)) expected.push(send(each));
        at += count;
        await untilAnswers(expected.length);
      }
      // A message that waits lets others pass.
      const inOrder = asked.every(({ waitMs }) => waitMs === 0);
      const byId = (left: { id: number }, right: { id: number }) => left.id - right.id;
      expect(inOrder ? answers : [...answers].sort(byId)).toEqual(expected);
    }),
    { numRuns: 40 },
  );
});

it('has read the next message, however large, while it is at one that takes long', async () => {
  answers.length = 0;
  const ask = { busyMs: 20, waitMs: 0, bytes: 10 };
  send(ask);
  send(ask);
  await untilAnswers(2);
  send({ ...ask, busyMs: 2_000 });
  send({ ...ask, bytes: 8_000_000 });
  await new Promise<void>((resolve) => messages().write(new Uint8Array(), () => resolve()));
  // All has left this process, and the system keeps less than that of a socket.
  expect([answers.length, messages().writableLength]).toEqual([2, 0]);
  await untilAnswers(4);
});

it('hears others while a message waits for something', async () => {
  answers.length = 0;
  const slow = send({ busyMs: 3, waitMs: 1_000, bytes: 10 });
  const quick = send({ busyMs: 0, waitMs: 0, bytes: 10 });
  await untilAnswers(2);
  expect(answers).toEqual([quick, slow]);
});
