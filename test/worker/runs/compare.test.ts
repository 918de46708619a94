import { expect, it } from 'vitest';
import type { Tensor } from '../../../dist/tensors/tensor.js';
import { areSameFeeds, whyDifferent } from '../../../dist/worker/runs/compare.js';

const f32 = (...data: number[]): Tensor => ({ type: 'float32', dims: [data.length], data: Float32Array.from(data) });
const f16 = (...bits: number[]): Tensor => ({ type: 'float16', dims: [bits.length], data: Uint16Array.from(bits) });
const u8 = (...data: number[]): Tensor => ({ type: 'uint8', dims: [data.length], data: Uint8Array.from(data) });
const i64 = (...data: bigint[]): Tensor => ({ type: 'int64', dims: [data.length], data: BigInt64Array.from(data) });

it.each<[string, Tensor, Tensor, string | undefined]>([
  ['the same', f32(1, 2), f32(1, 2), undefined],
  ['off in the last bits', f32(1_000.05), f32(1_000), undefined],
  ['off beside a mask', f32(-1e9, 0.5, 0.7), f32(-1e9, 0.1, 0.7), 'output "y" is 0.5'],
  ['near zero among larger numbers', f32(20, 30, 0.001), f32(20, 30, 0.0011), undefined],
  ['one of many quantised numbers off by one', u8(7, 40, 9), u8(8, 40, 9), undefined],
  ['several quantised numbers off by one', u8(7, 41, 9), u8(8, 40, 9), 'is 41 instead of 40'],
  ['a quantised number off by more', u8(7, 40), u8(9, 40), 'is 7 instead of 9'],
  ['a flag', u8(0, 1), u8(1, 1), 'is 0 instead of 1'],
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
  const difference = whyDifferent([{ y: found }], [{ y: expected }]);
  if (reason === undefined) expect(difference).toBeUndefined();
  else expect(difference).toContain(reason);
});

it('what is usual is what all requests have: a number near zero may be one of sums of larger ones', () => {
  const y = (value: number) => ({ y: f32(value) });
  const others = [y(90), y(-120), y(70)];
  expect(whyDifferent([y(0.0011), ...others], [y(0.001), ...others])).toBeUndefined();
  expect(whyDifferent([y(0.0011)], [y(0.001)])).toContain('output "y" is 0.0010');
});

it('samples of a large output come from all of its columns', () => {
  const rows = 8_192;
  const columns = 2;
  const values = (small: number) =>
    Float32Array.from({ length: rows * columns }, (_, index) => (index % columns === 0 ? -1e9 : small));
  const tensor = (small: number): Tensor => ({ type: 'float32', dims: [rows, columns], data: values(small) });
  expect(whyDifferent([{ y: tensor(0.5) }], [{ y: tensor(0.1) }])).toContain('at element 1');
});

it('a missing output is a difference', () => {
  expect(whyDifferent([{}], [{ y: f32(1) }])).toBe('output "y" is missing');
});

it('feeds are the same when names, dims and elements are', () => {
  expect(areSameFeeds({ x: f32(1, 2) }, { x: f32(1, 2) })).toBe(true);
  expect(areSameFeeds({ x: f32(1, 2) }, { x: f32(1, 3) })).toBe(false);
  expect(areSameFeeds({ x: f32(1) }, { y: f32(1) })).toBe(false);
  expect(areSameFeeds({ x: f32(1, 2) }, { x: { ...f32(1, 2), dims: [2, 1] } as Tensor })).toBe(false);
});
