import { expect, it } from 'vitest';
import type { Tensor } from '../../dist/tensor.js';
import { areSameFeeds, whyDifferent } from '../../dist/worker/compare.js';

const f32 = (...data: number[]): Tensor => ({ type: 'float32', dims: [data.length], data: Float32Array.from(data) });
const f16 = (...bits: number[]): Tensor => ({ type: 'float16', dims: [bits.length], data: Uint16Array.from(bits) });
const u8 = (...data: number[]): Tensor => ({ type: 'uint8', dims: [data.length], data: Uint8Array.from(data) });
const i64 = (...data: bigint[]): Tensor => ({ type: 'int64', dims: [data.length], data: BigInt64Array.from(data) });

it.each<[string, Tensor, Tensor, string | undefined]>([
  ['the same', f32(1, 2), f32(1, 2), undefined],
  ['off in the last bits', f32(1_000.05), f32(1_000), undefined],
  ['near zero beside a large number', f32(10_000, 0.5), f32(10_000, 0.1), undefined],
  ['an 8-bit integer off by one', u8(7), u8(8), undefined],
  ['an 8-bit integer off by more', u8(7), u8(9), 'is 7 instead of 9'],
  ['off by more', f32(1, 2.01), f32(1, 2), 'output "y" is 2.0'],
  [
    'not a number either way',
    f32(Number.NaN, Number.NEGATIVE_INFINITY),
    f32(Number.NaN, Number.NEGATIVE_INFINITY),
    undefined,
  ],
  ['infinite one way', f32(Number.POSITIVE_INFINITY), f32(1), 'output "y" is Infinity instead of 1'],
  ['zero of another sign', f32(-0), f32(0), undefined],
  ['of another shape', f32(1), f32(1, 2), 'output "y" has dims [1] instead of [2]'],
  ['a float16 off by one bit', f16(0x3c01), f16(0x3c00), undefined],
  ['another float16', f16(0x4000), f16(0x3c00), 'is 16384 instead of 15360'],
  ['float16 of no number', f16(0x7e00), f16(0x7e01), undefined],
  ['a tiny float16', f16(0x0001), f16(0x8001), undefined],
  ['another integer', i64(2n), i64(3n), 'output "y" is 2 instead of 3'],
  [
    'another string',
    { type: 'string', dims: [1], data: ['a'] },
    { type: 'string', dims: [1], data: ['b'] },
    'a instead of b',
  ],
])('%s', (_, found, expected, reason) => {
  const difference = whyDifferent({ y: found }, { y: expected });
  if (reason === undefined) expect(difference).toBeUndefined();
  else expect(difference).toContain(reason);
});

it('a missing output is a difference', () => {
  expect(whyDifferent({}, { y: f32(1) })).toBe('output "y" is missing');
});

it('feeds are the same when names, dims and elements are', () => {
  expect(areSameFeeds({ x: f32(1, 2) }, { x: f32(1, 2) })).toBe(true);
  expect(areSameFeeds({ x: f32(1, 2) }, { x: f32(1, 3) })).toBe(false);
  expect(areSameFeeds({ x: f32(1) }, { y: f32(1) })).toBe(false);
  expect(areSameFeeds({ x: f32(1, 2) }, { x: { ...f32(1, 2), dims: [2, 1] } as Tensor })).toBe(false);
});
