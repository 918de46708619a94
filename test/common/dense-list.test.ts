import fc from 'fast-check';
import { expect, it } from 'vitest';
import { DenseList, type Positioned } from '../../dist/common/dense-list.js';

it('has the items that were added and did not leave, each at its position', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(9), { maxLength: 60 }), (moves) => {
      const list = new DenseList<Positioned>();
      const items = Array.from({ length: 10 }, (): Positioned => ({ position: undefined }));
      const inside = new Set<Positioned>();
      for (const move of moves) {
        const item = items[move] as Positioned;
        if (inside.delete(item)) expect(list.remove(item)).toBe(true);
        else {
          expect(list.remove(item)).toBe(false);
          list.add(item);
          inside.add(item);
        }
        expect(new Set(list.items)).toStrictEqual(inside);
        expect(list.items).toHaveLength(inside.size);
        expect(list.items.every((each, index) => each.position === index)).toBe(true);
      }
      expect(items.filter(({ position }) => position === undefined)).toHaveLength(10 - inside.size);
    }),
  );
});
