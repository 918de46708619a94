import { expect, it } from 'vitest';
import { shownLabels } from '../../../dist/observability/registry/label-values.js';

const shown = (model: string) => shownLabels({ model })['model'] as string;

it('labels that can be shown are the same object', () => {
  const labels = { model: 'digits-mlp', replica: 'default-0' };
  expect(shownLabels(labels)).toBe(labels);
  expect(shown('x'.repeat(64))).toBe('x'.repeat(64));
});

it('a long value is cut, and different ones stay different', () => {
  const [one, other] = [shown(`${'x'.repeat(300)}1`), shown(`${'x'.repeat(300)}2`)];
  expect([one.length, other.length]).toEqual([64, 64]);
  expect(one).toMatch(/^x{50}\.\.\.#[\da-f]{10}$/);
  expect(one).not.toBe(other);
});

it('a value that cannot be printed is escaped, and is that of no other name', () => {
  expect(shown('a\u001b[31m\r')).toMatch(/^a\\u001b\[31m\\r#[\da-f]{10}$/);
  expect(shown('a\u001b')).not.toBe(shown('a\\u001b'));
  expect(shown('\ud800')).not.toBe(shown('\ud801'));
});
