import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { HEADER_BYTES, PROCESS_FILES } from '../../../dist/protocol/frames/frame-format.js';
import { readMessage } from '../../../dist/protocol/frames/frame-message.js';
import { FrameReader } from '../../../dist/protocol/frames/frame-reader.js';
import { writeFrame } from '../../../dist/protocol/frames/frame-writer.js';

interface Asked {
  readonly busyMs: number;
  readonly waitMs: number;
  readonly thenBusyMs?: number;
  readonly bytes: number;
}

let replica: ChildProcess;
let lastId = 0;
const answers: { id: number; value: string }[] = [];
let dying: object | undefined;
let heard: () => void = () => undefined;

const messages = () => replica.stdio[PROCESS_FILES.messages] as Socket;

beforeEach(() => {
  answers.length = 0;
  dying = undefined;
  lastId = 0;
  const program = fileURLToPath(new URL('../../support/echoing-replica.mjs', import.meta.url));
  replica = spawn(process.execPath, [program], { stdio: ['ignore', 'inherit', 'inherit', 'pipe', 'pipe', 'pipe'] });
  const reader = new FrameReader((frame) => {
    const message = readMessage(frame) as { dying: object } | { id: number; answer: { value: string } };
    if ('dying' in message) dying = message.dying;
    else answers.push({ id: message.id, value: message.answer.value });
    heard();
    return true;
  });
  (replica.stdio[PROCESS_FILES.answers] as Socket).on('data', (chunk: Buffer) => reader.push(chunk));
});

afterEach(() => {
  replica.kill('SIGKILL');
});

function frameOf({ busyMs, waitMs, thenBusyMs = 0, bytes }: Asked): { id: number; value: string; bytes: Buffer } {
  lastId += 1;
  const data = new Uint8Array(bytes).fill(lastId % 251);
  const message = { kind: 'ask', busyMs, waitMs, thenBusyMs, data };
  const frame = Buffer.concat(writeFrame({ id: lastId, message }, [0, 0, 0]));
  return { id: lastId, value: createHash('sha1').update(data).digest('hex'), bytes: frame };
}

/** @returns what the answer has to be. */
function send(asked: Asked): { id: number; value: string } {
  const { id, value, bytes } = frameOf(asked);
  messages().write(bytes);
  return { id, value };
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

it('hears those that came with a message that waits for something', async () => {
  const long = { busyMs: 5, waitMs: 0, bytes: 10 };
  const short = { ...long, busyMs: 0 };
  for (let count = 1; count <= 3; count += 1) {
    send(long);
    await untilAnswers(count);
  }
  // While it waits others are answered, so that the side thread is to hand the socket back: behind the frame that it has
  // begun. Then this one is busy, what follows that frame comes with the socket, and the end of this one takes the first.
  send({ ...short, waitMs: 150, thenBusyMs: 100 });
  for (let count = 4; count <= 10; count += 1) {
    send(short);
    await untilAnswers(count);
  }
  const eighth = frameOf(short).bytes;
  const begun = frameOf({ ...short, bytes: 100_000 }).bytes;
  messages().write(Buffer.concat([eighth, begun.subarray(0, 50_000)]));
  await untilAnswers(11);
  await sleep(190);
  const waits = frameOf({ ...short, waitMs: 800 });
  const others = [frameOf(short), frameOf(short)];
  messages().write(Buffer.concat([begun.subarray(50_000), waits.bytes, ...others.map(({ bytes }) => bytes)]));
  await untilAnswers(16);
  const ids = answers.map(({ id }) => id);
  expect(ids.at(-1)).toBe(waits.id);
});

it('hears others while a message waits for something', async () => {
  const slow = send({ busyMs: 3, waitMs: 1_000, bytes: 10 });
  const quick = send({ busyMs: 0, waitMs: 0, bytes: 10 });
  await untilAnswers(2);
  expect(answers).toEqual([quick, slow]);
});

it.each([
  ['first', 0],
  ['side', 5],
])(
  'ends when the %s thread gets what it cannot read, whatever a handler has made of such errors',
  async (_, busyMs) => {
    for (let count = 1; count <= 2; count += 1) {
      send({ busyMs, waitMs: 0, bytes: 10 });
      await untilAnswers(count);
    }
    const broken = frameOf({ busyMs, waitMs: 0, bytes: 10 }).bytes;
    messages().write(broken.fill(0xee, HEADER_BYTES));
    const [code] = await once(replica, 'exit');
    expect([code, dying]).toEqual([1, expect.objectContaining({ message: expect.any(String) })]);
  },
);
