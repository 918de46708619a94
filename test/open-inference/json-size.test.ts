import fc from 'fast-check';
import { expect, it } from 'vitest';
import { countJsonValues } from '../../dist/open-inference/json/json-size.js';

/** Values, and lists and objects, of which an empty one may count twice. */
function valuesIn(value: unknown): number {
  if (value === null || typeof value !== 'object') return 1;
  return Object.values(value).reduce<number>((sum, each) => sum + valuesIn(each), 1);
}

it('counts about as many values as JSON.parse makes', () => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 6 }), (value) => {
      const counted = countJsonValues(Buffer.from(JSON.stringify(value)));
      const values = valuesIn(value);
      expect(counted).toBeGreaterThanOrEqual(values / 2);
      expect(counted).toBeLessThanOrEqual(2 * values);
    }),
  );
});

it('does not look into strings', () => {
  expect(countJsonValues(Buffer.from(JSON.stringify(`${'[,{'.repeat(5_000)}"\\`)))).toBe(1);
});

it('refuses texts that are nested too deep', () => {
  expect(() => countJsonValues(Buffer.alloc(2_000, '['))).toThrow('at most 1000 levels');
  expect(countJsonValues(Buffer.from('['.repeat(900) + ']'.repeat(900)))).toBe(901);
});
