import fc from 'fast-check';
import { expect, it } from 'vitest';
import { APART_FROM_BYTES, sizeClassOf } from '../../../dist/tensors/memory/size-class.js';
import { type Slab, Slabs } from '../../../dist/tensors/memory/slabs.js';
import { FakeClock } from '../../support/fakes/fake-clock.js';

const MEGABYTE = 2 ** 20;

it('gives each tensor memory that is large enough, and at most a quarter larger', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 2 ** 40 }), (bytes) => {
      const size = sizeClassOf(bytes);
      expect(size).toBeGreaterThanOrEqual(bytes);
      expect(size).toBeLessThanOrEqual(Math.max(bytes + 1, 1.25 * bytes));
      expect(sizeClassOf(size)).toBe(size);
    }),
  );
});

it('uses a slab again once nobody holds it, and never before', () => {
  const step = fc.record({
    kind: fc.constantFrom('take', 'hold', 'release'),
    bytes: fc.integer({ min: APART_FROM_BYTES, max: 4 * APART_FROM_BYTES }),
    which: fc.nat(),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const slabs = new Slabs(new FakeClock());
      const held: Slab[] = [];
      for (const { kind, bytes, which } of steps) {
        if (kind === 'take') {
          const slab = slabs.take(bytes);
          expect(held.map(({ memory }) => memory)).not.toContain(slab.memory);
          expect(slab.memory.byteLength).toBeGreaterThanOrEqual(bytes);
          slab.hold();
          held.push(slab);
        } else if (held.length > 0) {
          const index = which % held.length;
          const slab = held[index] as Slab;
          if (kind === 'hold') {
            slab.hold();
            held.push(slab);
          } else {
            slab.release();
            held.splice(index, 1);
          }
        }
        const used = new Set(held);
        expect(slabs.usedBytes).toBe([...used].reduce((sum, { memory }) => sum + memory.byteLength, 0));
      }
      for (const slab of held) slab.release();
      expect(slabs.usedBytes).toBe(0);
    }),
  );
});

it('keeps as many free slabs as were in use within ten seconds, and none when there is no use', () => {
  const clock = new FakeClock();
  const slabs = new Slabs(clock);
  const use = (count: number) => {
    const taken = Array.from({ length: count }, () => slabs.take(MEGABYTE));
    for (const slab of taken) slab.hold();
    for (const slab of taken) slab.release();
  };
  use(8);
  expect(slabs.freeBytes).toBe(8 * MEGABYTE);
  clock.advance(10_000);
  use(2);
  expect(slabs.freeBytes).toBe(8 * MEGABYTE);
  clock.advance(10_000);
  expect(slabs.freeBytes).toBe(2 * MEGABYTE);
  clock.advance(20_000);
  expect(slabs.freeBytes).toBe(0);
});

it('does not use what a caller has, and keeps nothing once it is closed', () => {
  const slabs = new Slabs(new FakeClock());
  const lent = slabs.take(MEGABYTE, true);
  lent.hold();
  lent.release();
  expect(slabs.freeBytes).toBe(0);
  lent.hold();
  lent.isLent = false;
  lent.release();
  expect(slabs.freeBytes).toBe(MEGABYTE);
  const used = slabs.take(MEGABYTE);
  used.hold();
  slabs.close();
  used.release();
  expect({ used: slabs.usedBytes, free: slabs.freeBytes }).toEqual({ used: 0, free: 0 });
});
