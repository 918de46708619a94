import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BufferPool } from '../../../dist/tensors/memory/buffer-pool.js';

describe('buffers that are used again', () => {
  it('are the ones that were given back, for as many bytes or somewhat fewer', () => {
    const pool = new BufferPool(1_000_000);
    const buffer = pool.take(5_000);
    pool.giveBack(buffer);
    expect(pool.take(20_000)).not.toBe(buffer);
    expect(pool.take(1_000)).not.toBe(buffer);
    expect(pool.take(8_000)).toBe(buffer);
    expect(pool.take(8_000)).not.toBe(buffer);
  });

  it('of sizes that nobody wants any more make room for others', () => {
    const pool = new BufferPool(32_768);
    const old = [pool.take(16_384), pool.take(16_384)];
    const wanted = [pool.take(8_192), pool.take(8_192)];
    for (const buffer of [...old, ...wanted]) pool.giveBack(buffer);
    expect(new Set([pool.take(8_192), pool.take(8_192)])).toEqual(new Set(wanted));
    expect(old).toContain(pool.take(16_384));
    expect(pool.bytes).toBe(0);
  });

  it('are never anybody else’s at the same time, large enough, and no more than the pool may keep', () => {
    const step = fc.oneof(fc.record({ take: fc.integer({ min: 1, max: 5_000 }) }), fc.record({ giveBack: fc.nat() }));
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const pool = new BufferPool(16_384);
        const taken: ArrayBuffer[] = [];
        for (const step of steps) {
          if ('take' in step) {
            const buffer = pool.take(step.take);
            expect(buffer.byteLength).toBeGreaterThanOrEqual(step.take);
            expect(taken).not.toContain(buffer);
            taken.push(buffer);
          } else if (taken.length > 0) {
            pool.giveBack(taken.splice(step.giveBack % taken.length, 1)[0] as ArrayBuffer);
          }
          expect(pool.bytes).toBeLessThanOrEqual(16_384);
        }
      }),
    );
  });

  it('are not kept when one alone is more than the pool may keep', () => {
    const pool = new BufferPool(1_000);
    const large = pool.take(1_001);
    expect(large.byteLength).toBe(1_001);
    pool.giveBack(large);
    expect(pool.bytes).toBe(0);
  });
});
