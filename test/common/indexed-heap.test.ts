import fc from 'fast-check';
import { expect, it } from 'vitest';
import { IndexedHeap } from '../../dist/common/indexed-heap.js';

it('always has the first item on top, whatever comes, leaves or changes its place', () => {
  const operation = fc.record({ kind: fc.constantFrom('set', 'delete', 'pop'), item: fc.nat(9), rank: fc.nat(20) });
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 80, size: 'max' }), (operations) => {
      const items = Array.from({ length: 10 }, () => ({ rank: 0 }));
      const heap = new IndexedHeap<{ rank: number }>((left, right) => left.rank < right.rank);
      const inside: { rank: number }[] = [];
      for (const { kind, item, rank } of operations) {
        const current = items[item] as { rank: number };
        const place = inside.indexOf(current);
        if (kind === 'set') {
          current.rank = rank;
          heap.set(current);
          if (place === -1) inside.push(current);
        } else if (kind === 'delete') {
          expect(heap.delete(current)).toBe(place !== -1);
          if (place !== -1) inside.splice(place, 1);
        } else {
          const popped = heap.pop();
          expect(popped?.rank ?? Number.POSITIVE_INFINITY).toBe(Math.min(...inside.map((other) => other.rank)));
          if (popped !== undefined) inside.splice(inside.indexOf(popped), 1);
        }
        expect(heap.size).toBe(inside.length);
        expect(heap.peek()?.rank ?? Number.POSITIVE_INFINITY).toBe(Math.min(...inside.map((other) => other.rank)));
        expect(items.every((other) => heap.has(other) === inside.includes(other))).toBe(true);
      }
    }),
  );
});
