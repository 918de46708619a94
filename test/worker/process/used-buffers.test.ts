import { expect, it } from 'vitest';
import { UsedBuffers } from '../../../dist/worker/process/used-buffers.js';

const MB = 2 ** 20;

it('are used again for the same size alone, the last one first', () => {
  const used = new UsedBuffers();
  const [first, second, other] = [new ArrayBuffer(MB), new ArrayBuffer(MB), new ArrayBuffer(MB + 8)];
  for (const buffer of [first, second, other]) used.add(buffer);
  expect(used.take(MB)).toBe(second);
  expect(used.take(MB)).toBe(first);
  const third = used.take(MB);
  expect([third === first, third.byteLength]).toEqual([false, MB]);
  expect(used.take(MB + 8)).toBe(other);
});

it('are kept up to sixteen megabytes, and the oldest are dropped', () => {
  const used = new UsedBuffers();
  const buffers = Array.from({ length: 5 }, () => new ArrayBuffer(4 * MB));
  for (const buffer of buffers) used.add(buffer);
  const taken = buffers.map(() => used.take(4 * MB));
  expect(taken.slice(0, 4)).toEqual(buffers.slice(1).reverse());
  expect(buffers.includes(taken[4] as ArrayBuffer)).toBe(false);
});

it.each([8, 32 * MB])('are not kept when it is not worth it: %i bytes', (bytes) => {
  const used = new UsedBuffers();
  const buffer = new ArrayBuffer(bytes);
  used.add(buffer);
  expect(used.take(bytes)).not.toBe(buffer);
});
