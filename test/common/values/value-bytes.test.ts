import { expect, it } from 'vitest';
import { bytesIn } from '../../../dist/common/values/value-bytes.js';

it.each<[string, unknown, number]>([
  ['nothing', undefined, 0],
  ['a number', 7, 0],
  ['a string', 'abc', 6],
  ['a view of a part of a buffer', new Float32Array(new ArrayBuffer(64), 4, 5), 20],
  ['a buffer', new ArrayBuffer(9), 9],
  ['a map, a set and what is in them', new Map([['k', new Set([new Uint8Array(3)])]]), 5],
  ['what occurs twice, once', [new Uint8Array(3)].flatMap((each) => [each, each]), 3],
  ['a long list', Array.from({ length: 300_000 }, () => 'a'), 600_000],
])('%s', (_, value, bytes) => {
  expect(bytesIn(value)).toBe(bytes);
});

it('a circle ends', () => {
  const circle: unknown[] = ['ab'];
  circle.push(circle);
  expect(bytesIn(circle)).toBe(4);
});
