import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { DenseSet } from '../../dist/common/dense-set.js';

it('holds what a Set would hold, without holes, whatever comes, goes and comes back', () => {
  const change = fc.record({ item: fc.nat(7), kind: fc.constantFrom('add', 'remove', 'delete') });
  fc.assert(
    fc.property(fc.array(change, { maxLength: 60 }), (changes) => {
      const dense = new DenseSet<number>();
      const plain = new Set<number>();
      for (const { item, kind } of changes) {
        dense[kind](item);
        if (kind === 'add') plain.add(item);
        else plain.delete(item);
        expect([...dense.items].sort()).toEqual([...plain].sort());
        for (let other = 0; other <= 7; other += 1) expect(dense.has(other)).toBe(plain.has(other));
      }
    }),
  );
});

it('holds on to what was taken out for now, and not to what was taken out for good', () => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const set = new DenseSet<object>();
  const put = (leave: 'remove' | 'delete') => {
    const item = {};
    set.add(item);
    set[leave](item);
    return new WeakRef(item);
  };
  const [removed, deleted] = [put('remove'), put('delete')];
  // What a WeakRef was made of stays until the turn is over.
  return new Promise<void>((resolve) => setImmediate(resolve)).then(() => {
    collect();
    expect(removed.deref()).toBeDefined();
    expect(deleted.deref()).toBeUndefined();
  });
});
