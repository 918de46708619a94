import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { hashPoint } from '../../dist/common/hash-point.js';
import { chooseShadows, chooseTarget, readTraffic } from '../../dist/endpoints/traffic.js';

/** The same numbers from 0 to below 1 in every run: mulberry32. */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

describe('the choice of a target', () => {
  const traffic = { a: 0.5, b: 0.3, c: 0.2 };

  it.each<[number, string]>([
    [0, 'a'],
    [0.499, 'a'],
    [0.5, 'b'],
    [0.799, 'b'],
    [0.8, 'c'],
    [0.999999, 'c'],
  ])('at %d is %s', (point, expected) => {
    expect(chooseTarget(traffic, point)).toBe(expected);
  });

  it('is the last where the weights add up to a little less', () => {
    expect(chooseTarget({ a: 0.5, b: 0.4999995 }, 0.9999999)).toBe('b');
  });

  it.each([0, 0.5, 0.9999999])('is never one without a share, at %d', (point) => {
    expect(chooseTarget({ a: 0, b: 0.4999995, c: 0, d: 0.5, e: 0 }, point)).toMatch(/^[bd]$/);
    expect(chooseShadows({ a: 0 }, () => point)).toEqual([]);
  });

  it.each([1, 2, 3])('splits 100,000 requests within a hundredth of the weights, with seed %d', (seed) => {
    const random = seeded(seed);
    const counts: Record<string, number> = {};
    for (let request = 0; request < 100_000; request += 1) {
      const target = chooseTarget(traffic, random());
      counts[target] = (counts[target] ?? 0) + 1;
    }
    for (const [target, weight] of Object.entries(traffic)) {
      expect(Math.abs((counts[target] ?? 0) / 100_000 - weight)).toBeLessThan(0.01);
    }
  });

  it('splits 100,000 shard keys within a hundredth as well', () => {
    let first = 0;
    for (let key = 0; key < 100_000; key += 1)
      if (chooseTarget(traffic, hashPoint('e', `user-${key}`)) === 'a') first += 1;
    expect(Math.abs(first / 100_000 - 0.5)).toBeLessThan(0.01);
  });

  it('stays the same for a shard key, and is another for other endpoints', () => {
    fc.assert(
      fc.property(fc.string(), (key) => {
        expect(hashPoint('e', key)).toBe(hashPoint('e', `${key}`));
      }),
    );
    expect(hashPoint('e', 'key')).not.toBe(hashPoint('f', 'key'));
  });

  it('moves only the keys that have to move when weights change', () => {
    for (let key = 0; key < 1_000; key += 1) {
      const point = hashPoint('e', `user-${key}`);
      const [before, after] = [chooseTarget({ a: 0.9, b: 0.1 }, point), chooseTarget({ a: 0.8, b: 0.2 }, point)];
      if (before === 'b') expect(after).toBe('b');
    }
  });

  it('gives each shadow its own share', () => {
    const points: Record<string, number> = { a: 0.4, b: 0.6, c: 0.99 };
    expect(chooseShadows({ a: 0.5, b: 0.5, c: 1 }, (target) => points[target] ?? 0)).toEqual(['a', 'c']);
  });
});

describe('the options of an endpoint', () => {
  it('are copied', () => {
    const traffic = { a: 1 };
    const read = readTraffic('endpoint', { traffic });
    traffic.a = 2;
    expect(read).toEqual({ traffic: { a: 1 }, shadow: {} });
  });

  it('may be off by a millionth', () => {
    expect(readTraffic('e', { traffic: { a: 0.3333333, b: 0.3333333, c: 0.3333333 } }).traffic).toHaveProperty('c');
  });

  it.each<[unknown, string]>([
    [{}, 'e.traffic must be named'],
    [{ traffic: {} }, 'e.traffic must name at least one target, and names none'],
    [{ traffic: { a: 0.5, b: 0.4 } }, 'e.traffic must add up to 1, and 0.5 + 0.4 is 0.9'],
    [{ traffic: { a: 1.5, b: -0.5 } }, 'e.traffic["a"] must be a number from 0 to 1, got 1.5'],
    [{ traffic: { a: 0, b: 0 } }, 'e.traffic must add up to 1, and 0 + 0 is 0'],
    [{ traffic: { a: 0.3, b: 0.3, c: 0.3 } }, 'e.traffic must add up to 1, and 0.3 + 0.3 + 0.3 is 0.9'],
    [{ traffic: { a: 0.333, b: 0.333, c: 0.333 } }, 'must add up to 1, and 0.333 + 0.333 + 0.333 is 0.999'],
    [{ traffic: { a: Number.NaN } }, 'e.traffic["a"] must be a number from 0 to 1, got NaN'],
    [{ traffic: { a: '1' } }, 'e.traffic["a"] must be a number from 0 to 1, got "1"'],
    [{ traffic: { a: 1 }, shadow: { b: 2 } }, 'e.shadow["b"] must be a number from 0 to 1, got 2'],
    [{ traffic: 'a' }, 'e.traffic must be a plain object, got "a"'],
    [{ traffic: { a: 1 }, mirror: {} }, 'e: unknown key "mirror"'],
    [null, 'e must be a plain object, got null'],
  ])('%j are refused', (options, message) => {
    expect(() => readTraffic('e', options as never)).toThrow(message);
  });
});
